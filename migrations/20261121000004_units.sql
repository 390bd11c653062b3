-- Units: one app on one cluster; rollouts that admit contents; what is published and what is reported.

CREATE TABLE app_plan (
    app_uid  uuid PRIMARY KEY REFERENCES resource (uid) ON DELETE CASCADE,
    -- Compare-and-set of the planner: two replicas may plan, one wins.
    version  bigint NOT NULL DEFAULT 0,
    -- Why nothing, or not everything, moves: the app's own reasons in order, {reason, params} each.
    waiting  jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(waiting) = 'array'),
    -- Since when it has such reasons, or has none.
    held_at  timestamptz NOT NULL DEFAULT now(),
    observed_generation bigint NOT NULL DEFAULT 0
);

-- Those that wait for the first revision of their source: few, of all that use it.
CREATE INDEX app_plan_no_artifact ON app_plan (app_uid) WHERE waiting @> '[{"reason": "NoArtifact"}]';

CREATE TABLE rollout (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_uid     uuid NOT NULL REFERENCES resource (uid) ON DELETE CASCADE,
    parent      bigint REFERENCES rollout (id) ON DELETE SET NULL,
    revision_id bigint REFERENCES revision (id),
    content     bytea REFERENCES content (digest),
    state       text NOT NULL CHECK (state IN ('Progressing', 'Complete', 'Withdrawn', 'Superseded')),
    cause       text NOT NULL,
    -- Units that it moves.
    clusters    int NOT NULL,
    -- Of these applied when it ended; NULL while it has not: then its admissions say it.
    clusters_applied int,
    -- How often clusters that were let go of were admitted again: who ends it has seen the last time.
    readmissions int NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX rollout_app ON rollout (app_uid, id);
-- What is removed is looked for in its successors.
CREATE INDEX rollout_parent ON rollout (parent);
CREATE INDEX rollout_content ON rollout (content);
CREATE INDEX rollout_revision ON rollout (revision_id);
CREATE INDEX rollout_open ON rollout (id) WHERE state IN ('Progressing', 'Withdrawn');

-- What became of each cluster that a rollout moves.
CREATE TABLE admission (
    rollout_id bigint NOT NULL REFERENCES rollout (id) ON DELETE CASCADE,
    cluster_id uuid NOT NULL,
    -- Clusters of one wave move together; all are of the first.
    wave       int NOT NULL DEFAULT 0,
    state      text NOT NULL CHECK (state IN ('Admitted', 'Applied', 'Withdrawn', 'Superseded')),
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rollout_id, cluster_id)
);
CREATE INDEX admission_unfinished ON admission (rollout_id, state, cluster_id) WHERE state <> 'Applied';

-- The revision that a content of an app is shown as: the source's present one if it renders to that, else the last that
-- did, else that with which it was rolled out. A commit that changes nothing of an app needs no write to be shown.
CREATE FUNCTION revision_of(app uuid, wanted bytea) RETURNS TABLE (id bigint, revision text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT v.id, v.revision FROM (
        SELECT CASE WHEN t.newest THEN 0 ELSE 1 END AS place,
               CASE WHEN t.newest THEN s.revision_id ELSE t.until_id END AS id
        FROM app_input i JOIN input_at t ON t.input_key = i.input_key
            JOIN rendering x ON x.digest = t.rendering AND x.content = wanted
            JOIN source_state s ON s.uid = t.source_uid
        WHERE i.app_uid = app
        UNION ALL
        SELECT 2, r.revision_id FROM rollout r WHERE r.app_uid = app AND r.content = wanted
    ) AS found JOIN revision v ON v.id = found.id
    ORDER BY found.place, v.id DESC LIMIT 1;
END;

-- Sets of object keys: what units claim in their clusters. Each is here once, whatever has it.
CREATE TABLE keyset (
    digest        bytea PRIMARY KEY,
    referenced_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE keyset_key (
    keyset    bytea NOT NULL REFERENCES keyset (digest) ON DELETE CASCADE,
    api_group text NOT NULL,
    kind      text NOT NULL,
    namespace text NOT NULL,
    name      text NOT NULL,
    PRIMARY KEY (keyset, api_group, kind, namespace, name)
);
CREATE INDEX keyset_key_named ON keyset_key (name, namespace, kind, api_group);

-- What a unit is to be: content, settings and variables, which move together or not at all. Shared by all units that
-- have it, and kept for as long as a unit, an agent or the history names it.
CREATE TABLE target (
    digest        bytea PRIMARY KEY,
    content       bytea REFERENCES content (digest),
    settings      jsonb NOT NULL,
    variables     jsonb NOT NULL,
    -- Values that the variables name.
    configs       bytea[] NOT NULL DEFAULT '{}',
    -- The keys that its objects have, names that hold a variable with its value.
    keyset        bytea REFERENCES keyset (digest),
    referenced_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX target_content ON target (content);
CREATE INDEX target_keyset ON target (keyset);

CREATE TABLE unit (
    id          uuid PRIMARY KEY,
    app_uid     uuid NOT NULL REFERENCES resource (uid),
    cluster_id  uuid NOT NULL REFERENCES cluster (id),
    version     bigint NOT NULL DEFAULT 1,
    target      bytea NOT NULL REFERENCES target (digest),
    revision_id bigint REFERENCES revision (id),
    -- Which gave it its target.
    rollout_id  bigint REFERENCES rollout (id),
    -- Active, Suspended, Detached, Removing
    state       text NOT NULL,
    -- How it is removed: {policy, approval}.
    removal     jsonb,
    cause       text NOT NULL,
    -- Objects of its content that others own, {key, owner} each.
    withheld    jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(withheld) = 'array'),
    -- Why it does not move, as in app_plan.
    waiting     jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(waiting) = 'array'),
    -- Since when it has such reasons, or has none; since when it has its target.
    held_at     timestamptz NOT NULL DEFAULT now(),
    moved_at    timestamptz NOT NULL DEFAULT now(),
    requested   text NOT NULL DEFAULT '',
    -- Its entry is let go of: its agent forgets it, and what it has written stays.
    released    boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app_uid, cluster_id),
    CHECK ((state = 'Removing') = (removal IS NOT NULL))
);
CREATE INDEX unit_cluster ON unit (cluster_id);
CREATE INDEX unit_rollout ON unit (rollout_id);
CREATE INDEX unit_target ON unit (target);
CREATE INDEX unit_revision ON unit (revision_id);

CREATE INDEX unit_withheld ON unit (cluster_id) WHERE withheld <> '[]';

-- Units that changed since their entries were published. Rows of their own: as a column of `unit` each would be written
-- twice, with all its indexes. Whoever changes a unit writes its row here in the same transaction, also where there is one,
-- so that it waits for a publisher that takes it away; the publisher reads the unit after that, in a statement of its own.
CREATE TABLE unpublished (
    cluster_id uuid NOT NULL,
    unit_id    uuid NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster_id, unit_id)
);

-- Removals that people have allowed, each of a unit with one target: what was allowed for another one is void.
CREATE TABLE approval (
    unit_id   uuid NOT NULL REFERENCES unit (id) ON DELETE CASCADE,
    target    bytea NOT NULL,
    principal text NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (unit_id, target)
);

CREATE TABLE desired (
    cluster_id  uuid PRIMARY KEY REFERENCES cluster (id),
    incarnation bigint NOT NULL,
    generation  bigint NOT NULL DEFAULT 0,
    root        bytea NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX desired_incarnation ON desired (incarnation);

CREATE TABLE desired_entry (
    cluster_id       uuid NOT NULL REFERENCES cluster (id),
    unit_id          uuid NOT NULL REFERENCES unit (id),
    digest           bytea NOT NULL,
    bytes            bytea NOT NULL,
    -- What of the entry's content an agent may fetch.
    content          bytea REFERENCES content (digest),
    configs          bytea[] NOT NULL DEFAULT '{}',
    -- The content that it had before, where this one is another: what its agent likely holds still.
    former           bytea,
    since_generation bigint NOT NULL,
    -- It is let go of: no part of the root, and kept until the cluster's agent has accepted that or a later generation.
    released         boolean NOT NULL DEFAULT false,
    PRIMARY KEY (cluster_id, unit_id)
);
CREATE INDEX desired_entry_released ON desired_entry (cluster_id) WHERE released;
CREATE INDEX desired_entry_content ON desired_entry (content, cluster_id);
CREATE INDEX desired_entry_since ON desired_entry (cluster_id, since_generation);

-- Digests that stand one after the other.
CREATE FUNCTION digests(bytes bytea) RETURNS bytea[] LANGUAGE sql IMMUTABLE
    RETURN ARRAY(SELECT substr(bytes, n * 32 + 1, 32) FROM generate_series(0, length(bytes) / 32 - 1) AS n);

-- What of this a cluster's published entries name. A few digests are looked up each: of a cluster of many units, all would
-- be read for each question. Of many, what the cluster has is gone through once: each may have been in a thousand contents.
CREATE FUNCTION reachable(cluster uuid, contents bytea[], objects bytea[], configs bytea[]) RETURNS SETOF bytea
    LANGUAGE sql STABLE
    BEGIN ATOMIC
    SELECT v FROM unnest(contents) AS v CROSS JOIN LATERAL (
        SELECT FROM desired_entry e WHERE e.content = v AND e.cluster_id = cluster LIMIT 1) AS one
    UNION ALL
    SELECT v FROM unnest(objects) AS v CROSS JOIN LATERAL (
        SELECT FROM (SELECT part FROM part_object WHERE object = v OFFSET 0) AS o
        CROSS JOIN LATERAL (SELECT content FROM content_part p WHERE p.part = o.part OFFSET 0) AS c
        CROSS JOIN LATERAL (SELECT FROM desired_entry e WHERE e.content = c.content AND e.cluster_id = cluster LIMIT 1) AS e
        LIMIT 1) AS one
    WHERE cardinality(objects) <= 100
    UNION ALL
    SELECT o.object FROM (SELECT DISTINCT content FROM desired_entry e WHERE e.cluster_id = cluster) AS e
    CROSS JOIN LATERAL (SELECT part FROM content_part p WHERE p.content = e.content OFFSET 0) AS c
    CROSS JOIN LATERAL (SELECT object FROM part_object WHERE part = c.part OFFSET 0) AS o
    WHERE cardinality(objects) > 100 AND (o.object IN (SELECT * FROM unnest(objects))) IS TRUE
    UNION ALL
    SELECT c FROM desired_entry e, unnest(e.configs) AS c
    WHERE e.cluster_id = cluster AND cardinality(reachable.configs) > 0 AND c = ANY (reachable.configs);
    END;

CREATE TABLE unit_status (
    unit_id     uuid PRIMARY KEY REFERENCES unit (id) ON DELETE CASCADE,
    -- Version of the entry held, that `ready` and the texts are about.
    version     bigint NOT NULL,
    -- Targets, each with the version of the entry that asked for it: both count.
    attempted_version bigint,
    attempted   bytea,
    applied_version bigint,
    applied     bytea,
    healthy_version bigint,
    healthy     bytea,
    -- Since when `healthy` is healthy without a break, by the hub's clock; NULL while it is not.
    healthy_since timestamptz,
    ready       text NOT NULL,
    -- Since when `ready` is what it is, at this version.
    turned_at   timestamptz NOT NULL DEFAULT now(),
    reason      text NOT NULL DEFAULT '',
    message     text NOT NULL DEFAULT '',
    -- What is to be known of a ready unit all the same.
    notes       text NOT NULL DEFAULT '',
    health      text NOT NULL DEFAULT '',
    objects     int NOT NULL DEFAULT 0,
    objects_failed int NOT NULL DEFAULT 0,
    objects_pending_removal int NOT NULL DEFAULT 0,
    apply_ms    bigint NOT NULL DEFAULT 0,
    observed_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

CREATE TABLE unit_object (
    unit_id     uuid NOT NULL REFERENCES unit (id) ON DELETE CASCADE,
    api_group   text NOT NULL,
    kind        text NOT NULL,
    namespace   text NOT NULL,
    name        text NOT NULL,
    api_version text NOT NULL,
    uid         text NOT NULL DEFAULT '',
    state       text NOT NULL,
    health      text NOT NULL DEFAULT '',
    message     text NOT NULL DEFAULT '',
    adopted     boolean NOT NULL DEFAULT false,
    sent        bytea,
    PRIMARY KEY (unit_id, api_group, kind, namespace, name)
) WITH (fillfactor = 85);

-- What an agent has said that it holds durably, whatever it was offered since and has applied: with the hub gone it
-- enforces this.
CREATE TABLE unit_accepted (
    cluster_id uuid NOT NULL REFERENCES cluster (id),
    unit_id    uuid NOT NULL REFERENCES unit (id) ON DELETE CASCADE,
    version    bigint NOT NULL,
    target     bytea NOT NULL,
    -- Digest of the entry; NULL: the agent is too old to say it.
    entry      bytea,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster_id, unit_id)
);
CREATE INDEX unit_accepted_target ON unit_accepted (target);

-- What units claim in their clusters, but for what they leave to others: what they are to have, and what their agents hold.
-- Of two that want the same object the first has it; the other is a Conflict.
CREATE VIEW claim AS
    SELECT c.cluster_id, c.unit_id, t.keyset, bool_or(c.target) AS target, bool_or(c.accepted) AS accepted
    FROM (SELECT u.cluster_id, u.id AS unit_id, u.target AS digest, true AS target, false AS accepted FROM unit u
          UNION ALL
          SELECT a.cluster_id, a.unit_id, a.target, false, true FROM unit_accepted a) AS c
    JOIN target t ON t.digest = c.digest AND t.keyset IS NOT NULL
    GROUP BY 1, 2, 3;

-- Entries that an agent did not take, and why; until it takes one of that unit.
CREATE TABLE unit_refused (
    cluster_id uuid NOT NULL REFERENCES cluster (id),
    unit_id    uuid NOT NULL REFERENCES unit (id) ON DELETE CASCADE,
    entry      bytea NOT NULL,
    reason     text NOT NULL,
    message    text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster_id, unit_id)
);

-- What units were to be, and whether they were ready: a row each time that turned, until the next one of the unit.
-- Ordered by version and then time: a report about a former version that is committed late ends nothing. It outlives
-- its unit. By month.
CREATE TABLE history (
    cluster_id uuid NOT NULL,
    unit_id    uuid NOT NULL,
    version    bigint NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    target     bytea NOT NULL,
    ready      text NOT NULL,
    -- Of the target, in the row that its plan wrote.
    content    bytea,
    PRIMARY KEY (unit_id, version, at)
) PARTITION BY RANGE (at);
CREATE INDEX history_target ON history (target);
CREATE INDEX history_content ON history (content, cluster_id) WHERE content IS NOT NULL;

-- What of this a cluster has, or had. As in `reachable`, few are looked up each, by content and cluster at once: where each
-- cluster has variables of its own, a content has as many targets as it has clusters. Of many objects, and of values,
-- those count that its agent holds.
CREATE FUNCTION given(cluster uuid, contents bytea[], objects bytea[], configs bytea[]) RETURNS SETOF bytea
    LANGUAGE sql STABLE
    BEGIN ATOMIC
    SELECT v FROM unnest(contents) AS v CROSS JOIN LATERAL (
        SELECT FROM history h WHERE h.content = v AND h.cluster_id = cluster LIMIT 1) AS one
    UNION ALL
    SELECT v FROM unnest(objects) AS v CROSS JOIN LATERAL (
        SELECT FROM (SELECT part FROM part_object WHERE object = v OFFSET 0) AS o
        CROSS JOIN LATERAL (SELECT content FROM content_part p WHERE p.part = o.part OFFSET 0) AS c
        CROSS JOIN LATERAL (SELECT FROM history h WHERE h.content = c.content AND h.cluster_id = cluster LIMIT 1) AS h
        LIMIT 1) AS one
    WHERE cardinality(objects) <= 100
    UNION ALL
    SELECT o.object FROM (SELECT DISTINCT t.content FROM unit_accepted a JOIN target t ON t.digest = a.target
                          WHERE a.cluster_id = cluster) AS a
    CROSS JOIN LATERAL (SELECT part FROM content_part p WHERE p.content = a.content OFFSET 0) AS c
    CROSS JOIN LATERAL (SELECT object FROM part_object WHERE part = c.part OFFSET 0) AS o
    WHERE cardinality(objects) > 100 AND (o.object IN (SELECT * FROM unnest(objects))) IS TRUE
    UNION ALL
    SELECT c FROM unit_accepted a JOIN target t ON t.digest = a.target, unnest(t.configs) AS c
    WHERE a.cluster_id = cluster AND cardinality(given.configs) > 0 AND c = ANY (given.configs);
    END;
