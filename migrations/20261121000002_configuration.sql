-- Configured objects. Identity is (scope, group, kind, namespace, name). The scope is the id of a cluster: one that is made
-- again under a former name inherits nothing.

-- The scope of what belongs to no cluster.
CREATE FUNCTION fleet() RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN '00000000-0000-0000-0000-000000000000'::uuid;

-- A scope as people name it: '' for the fleet, else the cluster's name; the id of a cluster that is no more.
CREATE FUNCTION scope_name(scope uuid) RETURNS text LANGUAGE sql STABLE
    RETURN CASE WHEN scope = fleet() THEN ''
                ELSE coalesce((SELECT c.name FROM cluster c WHERE c.id = scope), scope::text) END;

-- Kinds that units are made of, and kinds that are fetched: as the API's table says, which a test compares.
CREATE FUNCTION is_app(kind text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN kind IN ('Kustomization');
CREATE FUNCTION is_source(kind text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN kind IN ('GitRepository');

-- An object as people name it: `Kind/namespace/name`, or `Kind/name`.
CREATE FUNCTION object_name(kind text, namespace text, name text) RETURNS text LANGUAGE sql STABLE
    RETURN concat_ws('/', kind, nullif(namespace, ''), name);

CREATE TABLE resource (
    uid           uuid PRIMARY KEY,
    scope         uuid NOT NULL DEFAULT fleet(),
    api_group     text NOT NULL,
    kind          text NOT NULL,
    namespace     text NOT NULL DEFAULT '',
    name          text NOT NULL,
    api_version   text NOT NULL,
    generation    bigint NOT NULL DEFAULT 1,
    labels        jsonb NOT NULL DEFAULT '{}',
    annotations   jsonb NOT NULL DEFAULT '{}',
    -- Annotations set by commands: they win over the owner's, and an apply leaves them as they are.
    overlay       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(overlay) = 'object'),
    -- The owner's last spec, replaced whole by each apply. A Secret's values are not here but in sealed_payload.
    spec          jsonb NOT NULL DEFAULT '{}',
    -- A Placement's without the apps that it places, which stand in `reference` too: a look at one of a thousand does not
    -- read the names of all.
    spec_without_apps jsonb GENERATED ALWAYS AS (
                      CASE WHEN kind = 'Placement' THEN spec || '{"apps": []}'::jsonb END) STORED,
    -- Set by commands; wins until a command, or an apply that changes the same field, replaces it.
    suspended     boolean,
    requested_at  text NOT NULL DEFAULT '',
    handled_at    text NOT NULL DEFAULT '',
    sealed_payload bytea,
    -- Keyed digest of a Secret's values, plain digest of a ConfigMap's.
    payload_digest bytea,
    -- Fields and kinds kept but not reconciled by this release.
    not_supported text[] NOT NULL DEFAULT '{}',
    -- It is to be deleted, since when, and what is to become of what it has applied.
    deleting_at   timestamptz,
    deletion_policy text,
    origin        text NOT NULL,
    owner         uuid REFERENCES resource (uid),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (scope, api_group, kind, namespace, name)
);
-- As names are looked up: those of one scope, and of others nothing is read.
CREATE INDEX resource_called ON resource (kind, namespace, name, scope);
-- What is suspended may never have been planned with what it names.
CREATE INDEX resource_suspended ON resource (uid) WHERE coalesce(suspended, spec->'suspend' = 'true', false);

-- Who uses what, by name: what is used may come later. A change wakes exactly its users.
CREATE TABLE reference (
    referrer  uuid NOT NULL REFERENCES resource (uid) ON DELETE CASCADE,
    kind      text NOT NULL,
    scope     uuid NOT NULL,
    namespace text NOT NULL,
    name      text NOT NULL,
    -- The referrer's own scope.
    of_scope  uuid NOT NULL,
    -- Nothing but a name is looked up in it.
    PRIMARY KEY (kind, scope, namespace, name, of_scope, referrer)
);
CREATE INDEX reference_referrer ON reference (referrer);

-- Who names an object, where the name leads to it: from a cluster's scope it leads to what is there, and to the fleet's
-- where there is none. Which scopes name it is looked up from one to the next: of a scope that has its own nothing is read.
CREATE FUNCTION users_of(used uuid) RETURNS SETOF uuid LANGUAGE sql STABLE ROWS 10
    BEGIN ATOMIC
    WITH RECURSIVE object AS (
        SELECT r.kind, r.scope, r.namespace, r.name FROM resource r WHERE r.uid = used
    ), naming (scope) AS (
        SELECT (SELECT f.of_scope FROM reference f
                WHERE f.kind = o.kind AND f.scope = o.scope AND f.namespace = o.namespace AND f.name = o.name
                ORDER BY f.of_scope LIMIT 1)
        FROM object o
        UNION ALL
        SELECT (SELECT f.of_scope FROM reference f
                WHERE f.kind = o.kind AND f.scope = o.scope AND f.namespace = o.namespace AND f.name = o.name
                    AND f.of_scope > n.scope
                ORDER BY f.of_scope LIMIT 1)
        FROM naming n CROSS JOIN object o WHERE n.scope IS NOT NULL
    )
    SELECT f.referrer FROM object o CROSS JOIN naming n
        CROSS JOIN LATERAL (
            SELECT f.referrer FROM reference f
            WHERE f.kind = o.kind AND f.scope = o.scope AND f.namespace = o.namespace AND f.name = o.name
                AND f.of_scope = n.scope OFFSET 0) AS f
    WHERE n.scope IS NOT NULL AND (n.scope = o.scope OR (
        SELECT true FROM resource own
        WHERE own.kind = o.kind AND own.scope = n.scope AND own.namespace = o.namespace AND own.name = o.name
        LIMIT 1) IS NULL);
    END;

-- Apps that are to be planned after a change of these objects: apps themselves, users of a source, ConfigMap or Secret,
-- and what placements name, these changed or their groups.
CREATE FUNCTION apps_of(changed uuid[]) RETURNS SETOF uuid LANGUAGE sql STABLE
    BEGIN ATOMIC
    WITH c AS (SELECT uid, scope, kind, namespace, name FROM resource WHERE uid = ANY (changed)),
    placement AS (
        SELECT uid FROM c WHERE kind = 'Placement'
        UNION
        SELECT f.referrer FROM c CROSS JOIN LATERAL (
            SELECT f.referrer FROM reference f
            WHERE f.kind = c.kind AND f.scope = c.scope AND f.namespace = c.namespace AND f.name = c.name OFFSET 0) AS f
        WHERE c.kind = 'ClusterGroup'
    )
    SELECT uid FROM c WHERE is_app(kind)
    UNION
    SELECT a.uid FROM c CROSS JOIN LATERAL users_of(c.uid) AS used_by
        CROSS JOIN LATERAL (SELECT r.uid, r.kind FROM resource r WHERE r.uid = used_by OFFSET 0) AS a
    WHERE is_app(a.kind)
    UNION
    -- From the placements to what they name, one by one: not from all that names an app.
    SELECT a.uid FROM placement p
        CROSS JOIN LATERAL (SELECT f.* FROM reference f WHERE f.referrer = p.uid OFFSET 0) AS f
        CROSS JOIN LATERAL (
            SELECT r.uid FROM resource r
            WHERE r.kind = f.kind AND r.scope = f.scope AND r.namespace = f.namespace AND r.name = f.name OFFSET 0) AS a
    WHERE is_app(f.kind);
    END;

-- What is to be decided anew: written with the change, deleted with the decision that has seen it. A wake-up that is
-- lost is found here.
CREATE TABLE due (
    topic  text NOT NULL CHECK (topic IN ('app', 'cluster')),
    key    uuid NOT NULL,
    -- Rises with each change: a decision takes away only what it has seen.
    change bigint NOT NULL DEFAULT 1,
    -- When it last changed: what has just changed is on its way to whoever is woken by it.
    at     timestamptz NOT NULL DEFAULT now(),
    -- The hub that is at it, until then: another leaves it meanwhile.
    held_by    text NOT NULL DEFAULT '',
    held_until timestamptz NOT NULL DEFAULT 'epoch',
    PRIMARY KEY (topic, key)
);

-- What one hub does for all of them from time to time, and when it was done last.
CREATE TABLE look (
    name text PRIMARY KEY,
    at   timestamptz NOT NULL
);

-- Conditions of kinds that are not units: sources, receivers.
CREATE TABLE resource_status (
    uid                 uuid PRIMARY KEY REFERENCES resource (uid) ON DELETE CASCADE,
    observed_generation bigint NOT NULL,
    conditions          jsonb NOT NULL DEFAULT '[]',
    updated_at          timestamptz NOT NULL DEFAULT now()
);

-- What happened and is not a state, by day.
CREATE SEQUENCE event_id;
CREATE TABLE event (
    id          bigint NOT NULL DEFAULT nextval('event_id'),
    at          timestamptz NOT NULL DEFAULT now(),
    warning     boolean NOT NULL DEFAULT false,
    reason      text NOT NULL,
    message     text NOT NULL,
    resource_uid uuid REFERENCES resource (uid) ON DELETE CASCADE,
    cluster_id  uuid REFERENCES cluster (id),
    object      text NOT NULL DEFAULT '',
    revision    text NOT NULL DEFAULT '',
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX event_resource ON event (resource_uid, id);
CREATE INDEX event_cluster ON event (cluster_id, id);
-- What an agent tells again is known by its time.
CREATE INDEX event_told ON event (cluster_id, at);
CREATE INDEX event_cluster_itself ON event (cluster_id, id) WHERE resource_uid IS NULL;
CREATE INDEX event_warning ON event (id) WHERE warning;

-- Nudges between tasks and replicas. A reader goes by (xid, seq) and stops at its snapshot's xmin: a row of a
-- transaction still open could otherwise be passed over for ever. Rows are wake-ups only and soon deleted.
CREATE TABLE outbox (
    seq   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid   xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at    timestamptz NOT NULL DEFAULT now(),
    topic text NOT NULL,
    -- All that one transaction tells of a topic, or 5,000 of it.
    keys  uuid[] NOT NULL
);
CREATE INDEX outbox_order ON outbox (xid, seq);
