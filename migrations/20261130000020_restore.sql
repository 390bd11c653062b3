-- A hub restored from a backup: what of it is the backup's word alone, until something has confirmed it.

ALTER TABLE hub ADD COLUMN restored_at timestamptz;

-- Sources that were not looked at since the restore, and apps that were not planned from such a look. Units of these apps
-- are published to nobody: their agents keep what they hold, which may be newer than what is recorded here.
CREATE TABLE unconfirmed (
    uid uuid PRIMARY KEY REFERENCES resource (uid) ON DELETE CASCADE
);

-- Certificates that were issued after the backup are not recorded.
ALTER TABLE identity ADD COLUMN of_backup boolean NOT NULL DEFAULT false;
