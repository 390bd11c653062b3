-- Revisions, artifacts, rendered contents.

CREATE TABLE artifact (
    digest        text PRIMARY KEY,
    size          bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    referenced_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE revision (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_uid      uuid NOT NULL REFERENCES resource (uid) ON DELETE CASCADE,
    -- As Flux names it: main@sha1:…
    revision        text NOT NULL,
    commit_id       text NOT NULL,
    subject         text NOT NULL DEFAULT '',
    -- Digest of the source's own settings that shape the artifact (ignore rules …).
    config_digest   bytea NOT NULL,
    artifact_digest text NOT NULL REFERENCES artifact (digest),
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_uid, revision, config_digest, artifact_digest)
);
CREATE INDEX revision_source ON revision (source_uid, id);
CREATE INDEX revision_artifact ON revision (artifact_digest);

CREATE TABLE source_state (
    uid            uuid PRIMARY KEY REFERENCES resource (uid) ON DELETE CASCADE,
    -- Compare-and-set: of two replicas that probe at once, the slower must not record the older commit.
    version        bigint NOT NULL DEFAULT 0,
    revision_id    bigint REFERENCES revision (id),
    observed_generation bigint NOT NULL DEFAULT 0,
    last_probe     timestamptz,
    next_probe     timestamptz NOT NULL DEFAULT now(),
    failures       int NOT NULL DEFAULT 0,
    -- The hub that is looking at it, until then.
    held_by        text NOT NULL DEFAULT '',
    held_until     timestamptz NOT NULL DEFAULT 'epoch'
);

-- Bytes are zstd; a Secret's are sealed and not compressed.
CREATE TABLE object (
    digest        bytea PRIMARY KEY,
    bytes         bytea NOT NULL,
    decoded_size  int NOT NULL,
    secret        boolean NOT NULL DEFAULT false,
    referenced_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE content (
    digest        bytea PRIMARY KEY,
    bytes         bytea NOT NULL,
    decoded_size  int NOT NULL,
    objects       int NOT NULL,
    -- Digest of the objects' keys: who claims them and has others of the same keys has nothing new to claim. NULL where
    -- a key holds a variable.
    keys          bytea,
    referenced_at timestamptz NOT NULL DEFAULT now()
);

-- Values of ConfigMaps and Secrets that variable layers name, by digest.
CREATE TABLE config_value (
    digest        bytea PRIMARY KEY,
    bytes         bytea NOT NULL,
    decoded_size  int NOT NULL,
    secret        boolean NOT NULL,
    referenced_at timestamptz NOT NULL DEFAULT now()
);

-- Objects of contents, in parts that are named by what they hold: a content of which one object changes shares all other
-- parts with what it was, and its rows are few.
CREATE TABLE part (
    digest        bytea PRIMARY KEY,
    referenced_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE part_object (
    part   bytea NOT NULL REFERENCES part (digest) ON DELETE CASCADE,
    object bytea NOT NULL REFERENCES object (digest),
    PRIMARY KEY (part, object)
);
CREATE INDEX part_object_object ON part_object (object);

CREATE TABLE content_part (
    content bytea NOT NULL REFERENCES content (digest) ON DELETE CASCADE,
    part    bytea NOT NULL REFERENCES part (digest),
    PRIMARY KEY (content, part)
);
CREATE INDEX content_part_part ON content_part (part);

-- Which objects a content holds: what an agent may fetch is asked without opening manifests.
CREATE VIEW content_object AS
    SELECT c.content, o.object FROM content_part c JOIN part_object o ON o.part = c.part;

-- One evaluation of one input: engine, fields, artifact. Shared by all apps that have the same, in whatever scope.
CREATE TABLE rendering (
    digest      bytea PRIMARY KEY,
    state       text NOT NULL DEFAULT 'Pending' CHECK (state IN ('Pending', 'Done', 'Failed', 'NotSupported')),
    content     bytea REFERENCES content (digest),
    -- Hashes of the paths that were looked at: a commit that changes none of them changes nothing here. NULL: it may
    -- change whatever it changes.
    paths       bigint[],
    reason      text NOT NULL DEFAULT '',
    message     text NOT NULL DEFAULT '',
    -- Counted before an attempt begins.
    attempts    int NOT NULL DEFAULT 0,
    -- Attempts that ended with the process that made them.
    lost        int NOT NULL DEFAULT 0,
    -- The replica that renders it now, '' for none; from `not_before` on another may.
    begun_by    text NOT NULL DEFAULT '',
    not_before  timestamptz NOT NULL DEFAULT now(),
    duration_ms int NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
-- Whether an attempt of a replica is not the last one any more: another was begun, or it was given back.
CREATE FUNCTION is_taken(replica text, attempt int, r rendering) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN r.attempts > attempt OR r.attempts = attempt AND r.state = 'Pending' AND r.begun_by <> replica;
CREATE INDEX rendering_begun ON rendering (begun_by) WHERE begun_by <> '';
CREATE INDEX rendering_pending ON rendering (not_before) WHERE state = 'Pending';
CREATE INDEX rendering_content ON rendering (content);

-- What a source's revisions render to for one input: a row only where a revision may change something for it. The
-- newest row is about the source's present revision, and is moved with it in one transaction.
CREATE TABLE input_at (
    -- Digest of source, engine and fields.
    input_key   bytea NOT NULL,
    -- The revision from which on it is so.
    revision_id bigint NOT NULL REFERENCES revision (id) ON DELETE CASCADE,
    -- The last revision of which it was so; NULL for the newest.
    until_id    bigint REFERENCES revision (id) ON DELETE CASCADE,
    source_uid  uuid NOT NULL REFERENCES resource (uid) ON DELETE CASCADE,
    -- Digest of engine and fields: with an artifact it gives the rendering.
    fields      bytea NOT NULL,
    rendering   bytea NOT NULL,
    newest      boolean NOT NULL,
    PRIMARY KEY (input_key, revision_id)
);
CREATE UNIQUE INDEX input_newest ON input_at (input_key) WHERE newest;
CREATE INDEX input_source ON input_at (source_uid) WHERE newest;
CREATE INDEX input_rendering ON input_at (rendering);
CREATE INDEX input_revision ON input_at (revision_id);
CREATE INDEX input_until ON input_at (until_id);

CREATE TABLE app_input (
    app_uid   uuid PRIMARY KEY REFERENCES resource (uid) ON DELETE CASCADE,
    input_key bytea NOT NULL
);
CREATE INDEX app_input_key ON app_input (input_key);
