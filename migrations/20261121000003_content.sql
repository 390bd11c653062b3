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
    verification    jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_uid, revision, config_digest, artifact_digest)
);
CREATE INDEX revision_source ON revision (source_uid, id);

CREATE TABLE source_state (
    uid            uuid PRIMARY KEY REFERENCES resource (uid) ON DELETE CASCADE,
    -- Compare-and-set: of two replicas that probe at once, the slower must not record the older commit.
    version        bigint NOT NULL DEFAULT 0,
    revision_id    bigint REFERENCES revision (id),
    observed_generation bigint NOT NULL DEFAULT 0,
    config_digest  bytea NOT NULL DEFAULT '',
    last_probe     timestamptz,
    next_probe     timestamptz NOT NULL DEFAULT now(),
    failures       int NOT NULL DEFAULT 0
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

-- One row per distinct rendering: `variant` is the digest of the input without the artifact.
CREATE TABLE rendered (
    app_uid     uuid NOT NULL REFERENCES resource (uid) ON DELETE CASCADE,
    variant     bytea NOT NULL,
    revision_id bigint NOT NULL REFERENCES revision (id),
    state       text NOT NULL CHECK (state IN ('Pending', 'Done', 'Failed', 'NotSupported')),
    content     bytea REFERENCES content (digest),
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
    finished_at timestamptz,
    PRIMARY KEY (app_uid, variant, revision_id)
);
CREATE INDEX rendered_begun ON rendered (begun_by) WHERE begun_by <> '';
