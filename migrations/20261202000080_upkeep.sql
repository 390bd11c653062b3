-- A commit on a fleet writes each row of these tables anew, by which nothing changes that statements are planned by: how many
-- rows there are, and how many of them are alike. The server looked at all of them after each commit all the same, within
-- seconds, which was a sixth of what it did for one. It looks again once a table is several times what it was. What was
-- replaced in place needs no vacuum; of the other tables as much may be dead as lives.
ALTER TABLE session SET (autovacuum_analyze_scale_factor = 5);
ALTER TABLE unit_status SET (autovacuum_analyze_scale_factor = 5);
ALTER TABLE unit_object SET (autovacuum_analyze_scale_factor = 5);
ALTER TABLE unit_accepted SET (autovacuum_analyze_scale_factor = 5);
ALTER TABLE desired SET (autovacuum_analyze_scale_factor = 5);
ALTER TABLE unit SET (autovacuum_analyze_scale_factor = 5, autovacuum_vacuum_scale_factor = 1);
ALTER TABLE desired_entry SET (autovacuum_analyze_scale_factor = 5, autovacuum_vacuum_scale_factor = 1);
ALTER TABLE admission SET (autovacuum_analyze_scale_factor = 5, autovacuum_vacuum_scale_factor = 1);
-- Empty at rest: what is dead is bounded by a number.
ALTER TABLE unpublished SET (autovacuum_analyze_threshold = 20000, autovacuum_vacuum_threshold = 5000);
ALTER TABLE outbox SET (autovacuum_analyze_threshold = 20000);
ALTER TABLE history_rest SET (autovacuum_analyze_scale_factor = 5);

-- As before, and of partitions the same.
CREATE OR REPLACE FUNCTION make_partition(parent text, begins timestamptz, ends timestamptz) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    made text := format('%s_%s', parent, to_char(begins AT TIME ZONE 'UTC', 'YYYYMMDD'));
    rest text := parent || '_rest';
BEGIN
    IF to_regclass(made) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- One hub at a time: what another is at is not waited for.
    IF NOT pg_try_advisory_xact_lock(hashtext('partitions')) OR to_regclass(made) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- What it refers to first, as whoever writes an event for what it changes.
    IF parent = 'event' THEN
        LOCK TABLE resource, cluster IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    -- Whoever writes now finds out where a row goes before it waits for the rest, and would be refused by it later.
    IF begins <= now() THEN
        EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    END IF;
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', rest);
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
                    WITH (autovacuum_analyze_scale_factor = 5)', made, parent);
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE at >= %L AND at < %L RETURNING *)
                    INSERT INTO %I SELECT * FROM moved', rest, begins, ends, made);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, made, begins, ends);
    RETURN true;
END $$;
