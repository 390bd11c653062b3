-- Partitions by time of what only grows: they are made ahead and dropped whole. What no partition is for goes to the rest:
-- times long past or far ahead, and what comes while no hub has made any; there it is found until one is made for it.

CREATE TABLE event_rest PARTITION OF event DEFAULT;
CREATE TABLE audit_rest PARTITION OF audit DEFAULT;
CREATE TABLE history_rest PARTITION OF history DEFAULT;
-- The partitions are trimmed whole.
CREATE INDEX history_rest_at ON history_rest (at);

-- Makes a partition, unless it is there, and moves what the rest holds of its time. Gives up soon where others are in the
-- way: it is made ahead, and asked for again. Sooner than a server looks for a deadlock: of two that wait for each other
-- this one lets go.
CREATE FUNCTION make_partition(parent text, begins timestamptz, ends timestamptz) RETURNS boolean
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
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', made, parent);
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE at >= %L AND at < %L RETURNING *)
                    INSERT INTO %I SELECT * FROM moved', rest, begins, ends, made);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, made, begins, ends);
    RETURN true;
END $$;

-- Makes the partitions of a time and of those to come: four days of events, three months of audit and history. Returns how
-- many were made.
CREATE FUNCTION make_partitions(now timestamptz) RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
    SELECT count(*) FILTER (WHERE made) FROM (
        SELECT make_partition(p.parent, b AT TIME ZONE 'UTC', (b + p.step) AT TIME ZONE 'UTC') AS made
        FROM (VALUES ('event', 'day', interval '1 day', 3), ('audit', 'month', interval '1 month', 2),
                     ('history', 'month', interval '1 month', 2)) AS p(parent, unit, step, ahead),
             generate_series(date_trunc(p.unit, now AT TIME ZONE 'UTC'),
                             date_trunc(p.unit, now AT TIME ZONE 'UTC') + p.step * p.ahead, p.step) AS b
    ) AS each;
END;

-- Drops the partitions that end before a time, and returns how many. Of the history what reaches beyond that time goes to
-- the rest: it says what was so until the next turn.
CREATE FUNCTION drop_partitions(parent text, before timestamptz) RETURNS bigint
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
    part text;
    dropped bigint := 0;
BEGIN
    FOR part IN
        SELECT name FROM (
            SELECT c.relname AS name,
                   substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS ends
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = parent::regclass
        ) AS p WHERE ends <= before ORDER BY ends
    LOOP
        EXIT WHEN NOT pg_try_advisory_xact_lock(hashtext('partitions'));
        CONTINUE WHEN to_regclass(part) IS NULL;
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, part);
        IF parent = 'history' THEN
            EXECUTE format(
                'INSERT INTO history SELECT DISTINCT ON (h.unit_id) h.* FROM %I h
                 WHERE EXISTS (SELECT 1 FROM unit u WHERE u.id = h.unit_id)
                   AND NOT EXISTS (SELECT 1 FROM history n WHERE n.unit_id = h.unit_id
                                     AND (n.version, n.at) > (h.version, h.at) AND n.at < $1)
                 ORDER BY h.unit_id, h.version DESC, h.at DESC', part) USING before;
        END IF;
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
