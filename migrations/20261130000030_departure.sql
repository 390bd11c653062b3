-- Clusters that are to be emptied (Drain) or to leave the fleet (Retire): no app is placed there any more. Ended by the hub, or
-- by whoever says that it is to stay.
ALTER TABLE cluster ADD COLUMN departure text CHECK (departure IN ('Drain', 'Retire')),
    ADD COLUMN departing_at timestamptz,
    -- All that a drain was to remove is gone, and that was told.
    ADD COLUMN drained boolean NOT NULL DEFAULT false,
    ADD CHECK ((departure IS NULL) = (departing_at IS NULL));
CREATE INDEX cluster_departing ON cluster (id) WHERE departure IS NOT NULL;
-- All that a cluster has goes with it.
CREATE INDEX join_token_cluster ON join_token (cluster_id);
