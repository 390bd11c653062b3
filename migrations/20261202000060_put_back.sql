-- The latest desired state that a cluster's agent has ever said it accepted: one that comes back with an earlier one was put
-- back, and may hold units that were let go of since and are named no more.
ALTER TABLE session ADD COLUMN furthest_incarnation bigint NOT NULL DEFAULT 0,
    ADD COLUMN furthest_generation bigint NOT NULL DEFAULT 0;
