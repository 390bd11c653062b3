-- What has left units' contents and is still in their clusters, by what agents report: a row for as long as there is any.
-- It is the mark by which what may be deleted is decided, and holds that decision.
CREATE TABLE leaving (
    unit_id    uuid PRIMARY KEY REFERENCES unit (id) ON DELETE CASCADE,
    cluster_id uuid NOT NULL,
    app_uid    uuid NOT NULL,
    -- Of the unit that the report is about: what was decided for it is void with any other one.
    version    bigint NOT NULL,
    -- How many objects.
    objects    int NOT NULL,
    -- Off: the app prunes nothing. Open: it is to be decided whether they may go. Cleared: they may, but for these keys.
    state      text NOT NULL CHECK (state IN ('Off', 'Open', 'Cleared')),
    except_for jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(except_for) = 'array'),
    -- Why it is open, for people.
    waits      text NOT NULL DEFAULT '',
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX leaving_open ON leaving (app_uid, unit_id) WHERE state = 'Open';
-- Whoever claims what leaves, in a cluster, takes its clearing away.
CREATE INDEX leaving_cleared ON leaving (cluster_id) WHERE state = 'Cleared';

-- Units that do not move, but for what others have: what they are to be they may have to claim still. A column of its own, so
-- that a reason in other words changes no index.
CREATE FUNCTION holds_claims(waiting jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN EXISTS (SELECT FROM jsonb_array_elements(waiting) AS w WHERE w->>'reason' <> 'Claimed');
ALTER TABLE unit ADD COLUMN waits boolean NOT NULL GENERATED ALWAYS AS (holds_claims(waiting)) STORED;
CREATE INDEX unit_waits ON unit (cluster_id) WHERE waits;

-- What is pending is few of what there is.
CREATE INDEX unit_object_pending ON unit_object (unit_id) WHERE state = 'PendingRemoval';

-- A unit that goes is looked for by cluster and unit, as rows that name it are kept.
ALTER TABLE unit ADD CONSTRAINT unit_in_cluster UNIQUE (cluster_id, id);
DROP INDEX unit_cluster;
ALTER TABLE desired_entry DROP CONSTRAINT desired_entry_unit_id_fkey,
    ADD CONSTRAINT desired_entry_unit_fkey FOREIGN KEY (cluster_id, unit_id) REFERENCES unit (cluster_id, id);
ALTER TABLE unit_accepted DROP CONSTRAINT unit_accepted_unit_id_fkey,
    ADD CONSTRAINT unit_accepted_unit_fkey FOREIGN KEY (cluster_id, unit_id) REFERENCES unit (cluster_id, id) ON DELETE CASCADE;
ALTER TABLE unit_refused DROP CONSTRAINT unit_refused_unit_id_fkey,
    ADD CONSTRAINT unit_refused_unit_fkey FOREIGN KEY (cluster_id, unit_id) REFERENCES unit (cluster_id, id) ON DELETE CASCADE;
CREATE INDEX input_of_source ON input_at (source_uid);
-- What is kept is an app's in each scope, and is asked of one.
CREATE INDEX resource_owner ON resource (owner, scope) WHERE owner IS NOT NULL;

-- An approval is of a unit's target at one version: one that has the same target again later was not allowed.
ALTER TABLE approval ADD COLUMN version bigint NOT NULL DEFAULT 0;

-- What is to be deleted is looked for: all, and whether some of it is. Of few the server would read all for each.
CREATE INDEX resource_deleting ON resource (uid, deleting_at) WHERE deleting_at IS NOT NULL;

-- What had left before there were such rows.
INSERT INTO leaving (unit_id, cluster_id, app_uid, version, objects, state)
    SELECT u.id, u.cluster_id, u.app_uid, u.version, s.objects_pending_removal,
           CASE WHEN t.settings->'prune' = 'true' THEN 'Open' ELSE 'Off' END
    FROM unit_status s JOIN unit u ON u.id = s.unit_id AND u.version = s.version JOIN target t ON t.digest = u.target
    WHERE s.objects_pending_removal > 0;
