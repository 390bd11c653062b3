-- Certificates of an identity that others have come after: only a copy of it, or an agent whose state was put back, shows them.
-- An identity that ends takes its own along, so that one that joins later is doubted for none of an earlier agent.
ALTER TABLE identity ADD COLUMN serials_replaced bytea[] NOT NULL DEFAULT '{}';
