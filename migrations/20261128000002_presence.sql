-- Whether people were told that a cluster is connected: they are told of what lasts, and once.
ALTER TABLE session ADD COLUMN told_connected boolean NOT NULL DEFAULT false;
CREATE INDEX session_told ON session (cluster_id) WHERE told_connected;
