-- Guards over all that one commit would delete. A row that is blocked stays open until a person has allowed its target, and
-- weighs nothing for others.
ALTER TABLE leaving ADD COLUMN blocked boolean NOT NULL DEFAULT false;

-- What was cleared without a person lately, so that a commit in parts passes no guard. Kept for an hour.
CREATE TABLE cleared_lately (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_uid uuid NOT NULL,
    app_uid    uuid NOT NULL,
    cluster_id uuid NOT NULL,
    objects    bigint NOT NULL,
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cleared_lately_source ON cleared_lately (source_uid, at);
CREATE INDEX cleared_lately_at ON cleared_lately (at);
