-- What of many objects an agent may have, by look-ups where these are the cheaper way. The units of a first apply ask for some
-- hundred objects at a time, of a cluster that has thousands: going through all that it has cost ten times as much as they.

-- Of a part that thousands of contents have, the first few are read and no more.
DROP INDEX content_part_part;
CREATE INDEX content_part_part ON content_part (part, content);

-- Contents that have an object, as many of them at most: parts that no content has any more do not count.
CREATE FUNCTION contents_of(wanted bytea, most int) RETURNS SETOF bytea LANGUAGE sql STABLE
    BEGIN ATOMIC
    SELECT c.content FROM (SELECT part FROM part_object WHERE object = wanted OFFSET 0) AS o
    CROSS JOIN LATERAL (SELECT content FROM content_part p WHERE p.part = o.part LIMIT most) AS c
    LIMIT most;
    END;

-- Up to 500 objects, which is what an agent asks for at once, are looked up each, in a few of the contents that have them. One
-- that is in more than these, of other clusters and of former states, may be in one of the cluster's all the same: where there
-- is such a one, and of more objects, all that the cluster has is gone through once.
CREATE OR REPLACE FUNCTION reachable(cluster uuid, contents bytea[], objects bytea[], configs bytea[]) RETURNS SETOF bytea
    LANGUAGE sql STABLE
    BEGIN ATOMIC
    WITH asked AS MATERIALIZED (
        SELECT v AS object FROM unnest(objects) AS v),
    looked AS MATERIALIZED (
        SELECT a.object, (SELECT true FROM contents_of(a.object, 16) AS c CROSS JOIN LATERAL (
            SELECT FROM desired_entry e WHERE e.content = c AND e.cluster_id = cluster LIMIT 1) AS e LIMIT 1) AS found
        FROM asked a WHERE (SELECT count(*) FROM asked) <= 500),
    passed AS MATERIALIZED (
        SELECT a.object FROM asked a WHERE (SELECT count(*) FROM asked) > 500
        UNION ALL
        SELECT l.object FROM looked l WHERE l.found IS NULL AND (SELECT count(*) FROM contents_of(l.object, 16)) = 16)
    SELECT v FROM unnest(contents) AS v CROSS JOIN LATERAL (
        SELECT FROM desired_entry e WHERE e.content = v AND e.cluster_id = cluster LIMIT 1) AS one
    UNION ALL
    SELECT object FROM looked WHERE found
    UNION ALL
    SELECT o.object FROM (SELECT DISTINCT content FROM desired_entry e WHERE e.cluster_id = cluster) AS e
    CROSS JOIN LATERAL (SELECT part FROM content_part p WHERE p.content = e.content OFFSET 0) AS c
    CROSS JOIN LATERAL (SELECT object FROM part_object WHERE part = c.part OFFSET 0) AS o
    WHERE EXISTS (SELECT FROM passed) AND (o.object IN (SELECT object FROM passed)) IS TRUE
    UNION ALL
    SELECT c FROM desired_entry e, unnest(e.configs) AS c
    WHERE e.cluster_id = cluster AND cardinality(reachable.configs) > 0 AND c = ANY (reachable.configs);
    END;

-- The same of what it has, or had, of up to 100 objects: history has more to look through. What is gone through for is found where the cluster's agent holds it: of another one no patch
-- is made.
CREATE OR REPLACE FUNCTION given(cluster uuid, contents bytea[], objects bytea[], configs bytea[]) RETURNS SETOF bytea
    LANGUAGE sql STABLE
    BEGIN ATOMIC
    WITH asked AS MATERIALIZED (
        SELECT v AS object FROM unnest(objects) AS v),
    looked AS MATERIALIZED (
        SELECT a.object, (SELECT true FROM contents_of(a.object, 16) AS c CROSS JOIN LATERAL (
            SELECT FROM history h WHERE h.content = c AND h.cluster_id = cluster LIMIT 1) AS h LIMIT 1) AS found
        FROM asked a WHERE (SELECT count(*) FROM asked) <= 100),
    passed AS MATERIALIZED (
        SELECT a.object FROM asked a WHERE (SELECT count(*) FROM asked) > 100
        UNION ALL
        SELECT l.object FROM looked l WHERE l.found IS NULL AND (SELECT count(*) FROM contents_of(l.object, 16)) = 16)
    SELECT v FROM unnest(contents) AS v CROSS JOIN LATERAL (
        SELECT FROM history h WHERE h.content = v AND h.cluster_id = cluster LIMIT 1) AS one
    UNION ALL
    SELECT object FROM looked WHERE found
    UNION ALL
    SELECT o.object FROM (SELECT DISTINCT t.content FROM unit_accepted a JOIN target t ON t.digest = a.target
                          WHERE a.cluster_id = cluster) AS a
    CROSS JOIN LATERAL (SELECT part FROM content_part p WHERE p.content = a.content OFFSET 0) AS c
    CROSS JOIN LATERAL (SELECT object FROM part_object WHERE part = c.part OFFSET 0) AS o
    WHERE EXISTS (SELECT FROM passed) AND (o.object IN (SELECT object FROM passed)) IS TRUE
    UNION ALL
    SELECT c FROM unit_accepted a JOIN target t ON t.digest = a.target, unnest(t.configs) AS c
    WHERE a.cluster_id = cluster AND cardinality(given.configs) > 0 AND c = ANY (given.configs);
    END;
