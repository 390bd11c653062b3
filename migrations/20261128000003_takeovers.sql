-- Which instances of agents opened a cluster's stream lately: two that take it from each other are told.
ALTER TABLE session ADD COLUMN openings jsonb NOT NULL DEFAULT '[]';
