-- The hub itself, its certificate authority, clusters and their identities.

CREATE TABLE hub (
    singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Number of this store's history; a restore from a backup makes a new one.
    incarnation  bigint NOT NULL,
    trust_domain text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

-- Private keys are sealed with the key-encryption key; `retired_at` keeps a root in the trust bundle.
CREATE TABLE authority (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    certificate bytea NOT NULL,
    sealed_key  bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    retired_at  timestamptz
);

-- Permanent keys of the hub, sealed: `digest` keys the digests of Secret objects. One that does not open tells a wrong
-- key-encryption key.
CREATE TABLE sealed_key (
    name       text PRIMARY KEY,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE admin_credential (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE cluster (
    id           uuid PRIMARY KEY,
    name         text NOT NULL UNIQUE,
    -- Suspended: there is reason to doubt its agent, and a person is to decide.
    state        text NOT NULL CHECK (state IN ('Pending', 'Active', 'Suspended')),
    -- UID of the cluster's kube-system namespace: no two active clusters share one.
    cluster_uid  text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    joined_at    timestamptz
);
CREATE UNIQUE INDEX cluster_uid_active ON cluster (cluster_uid) WHERE state IN ('Active', 'Suspended');

CREATE TABLE identity (
    cluster_id          uuid PRIMARY KEY REFERENCES cluster (id),
    generation          bigint NOT NULL,
    serial_current      bytea NOT NULL,
    -- Issued and not yet seen in use; its first use promotes it. Two valid serials lock nobody out.
    serial_next         bytea,
    public_key          bytea NOT NULL,
    recovery_public_key bytea NOT NULL,
    issued_at           timestamptz NOT NULL DEFAULT now(),
    expires_at          timestamptz NOT NULL
);

CREATE TABLE join_token (
    id           text PRIMARY KEY,
    secret_hash  bytea NOT NULL,
    cluster_id   uuid NOT NULL REFERENCES cluster (id),
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    -- SHA-256 of the key that used it: the same key may retry, another burns the token.
    used_by_key  bytea,
    used_at      timestamptz,
    burnt_at     timestamptz
);

-- The hub's hold on a cluster's stream. Every write on behalf of a stream names its epoch. As of all tables of which a commit
-- updates each row and no index: there is room in its pages, so that no index is written.
CREATE TABLE session (
    cluster_id          uuid PRIMARY KEY REFERENCES cluster (id),
    epoch               bigint NOT NULL,
    boot_id             text NOT NULL DEFAULT '',
    replica             text NOT NULL DEFAULT '',
    connected           boolean NOT NULL DEFAULT false,
    last_seen           timestamptz,
    agent_version       text NOT NULL DEFAULT '',
    kube_version        text NOT NULL DEFAULT '',
    accepted_incarnation bigint NOT NULL DEFAULT 0,
    accepted_generation bigint NOT NULL DEFAULT 0,
    observed_root       bytea NOT NULL DEFAULT '',
    -- Of the rows that observed_root covers some were left out, since a full report began.
    rows_left_out       boolean NOT NULL DEFAULT false,
    -- Rows of objects that its agent has added, at most as many as there are: counted anew with each full report.
    objects             bigint NOT NULL DEFAULT 0,
    message             text NOT NULL DEFAULT ''
) WITH (fillfactor = 70);

-- States of a cluster or its agent that no unit has.
CREATE TABLE cluster_condition (
    cluster_id  uuid NOT NULL REFERENCES cluster (id),
    -- ApiServer, Ledger, Certificate, Reports, Clock
    kind        text NOT NULL,
    ok          boolean NOT NULL,
    message     text NOT NULL DEFAULT '',
    -- By the hub's clock.
    since       timestamptz NOT NULL,
    PRIMARY KEY (cluster_id, kind)
);

-- Hubs that run on this database. One that has not been heard of for 90 s is gone.
CREATE TABLE replica (
    name      text PRIMARY KEY,
    -- Of several versions only the highest decides.
    writer    bigint NOT NULL,
    heartbeat timestamptz NOT NULL DEFAULT now()
);

-- A hub that has not been heard of for 90 s is gone.
CREATE FUNCTION is_alive(heartbeat timestamptz) RETURNS boolean LANGUAGE sql STABLE
    RETURN heartbeat > now() - interval '90 seconds';

-- Whether a newer hub decides in place of one that writes as this version.
CREATE FUNCTION superseded(version bigint) RETURNS boolean LANGUAGE sql STABLE
    RETURN EXISTS (SELECT 1 FROM replica WHERE writer > version AND is_alive(heartbeat));

-- Append-only, by month.
CREATE SEQUENCE audit_seq;
CREATE TABLE audit (
    seq       bigint NOT NULL DEFAULT nextval('audit_seq'),
    at        timestamptz NOT NULL DEFAULT now(),
    principal text NOT NULL,
    verb      text NOT NULL,
    object    text NOT NULL,
    PRIMARY KEY (seq, at)
) PARTITION BY RANGE (at);
