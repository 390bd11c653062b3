-- A commit gives each unit of an app another target, which stood in an index: each was written into all indexes of the table
-- anew, which cost three times what the row does. Who has a target is asked by apps, of which there are few: these stand here.
CREATE TABLE target_app (
    target  bytea NOT NULL REFERENCES target (digest) ON DELETE CASCADE,
    app_uid uuid NOT NULL,
    PRIMARY KEY (target, app_uid)
);
INSERT INTO target_app (target, app_uid) SELECT DISTINCT target, app_uid FROM unit;
DROP INDEX unit_target;
-- Room for the next version of each row beside it.
ALTER TABLE unit SET (fillfactor = 60);
