-- A commit gives each unit of an app another target, which stood in an index: each was written into all indexes of the table
-- anew, which cost three times what the row does. Who has a target is asked by apps, of which there are few: these stand here.
-- Of what an app renders for each cluster to be kept there is an app in each, all with one target: such a one is found by its
-- cluster.
CREATE TABLE target_app (
    target  bytea NOT NULL REFERENCES target (digest) ON DELETE CASCADE,
    app_uid uuid NOT NULL,
    -- The only cluster in which the app has had it; none: it has had it in several.
    cluster_id uuid,
    PRIMARY KEY (target, app_uid)
);
CREATE INDEX target_app_cluster ON target_app (target, cluster_id);
INSERT INTO target_app (target, app_uid, cluster_id)
SELECT target, app_uid, CASE WHEN count(*) = 1 THEN (array_agg(cluster_id))[1] END FROM unit GROUP BY 1, 2;
DROP INDEX unit_target;
-- Room for the next version of each row beside it.
ALTER TABLE unit SET (fillfactor = 60);
