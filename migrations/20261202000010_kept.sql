-- What of a rendering the hub keeps itself: Flux's objects, and the ConfigMaps and Secrets that these name.

ALTER TABLE rendering ADD COLUMN kept bytea REFERENCES content (digest);
CREATE INDEX rendering_kept ON rendering (kept) WHERE kept IS NOT NULL;

-- An app that is gone leaves what it kept to nobody.
ALTER TABLE resource DROP CONSTRAINT resource_owner_fkey;
ALTER TABLE resource ADD CONSTRAINT resource_owner_fkey
    FOREIGN KEY (owner) REFERENCES resource (uid) ON DELETE SET NULL;

-- Of each cluster for which an app's rendering has such objects: how far they are kept.
CREATE TABLE nesting (
    app_uid    uuid NOT NULL REFERENCES resource (uid) ON DELETE CASCADE,
    cluster_id uuid NOT NULL,
    -- Keyed digest of what they were made from last; NULL: of some that is to be looked at again.
    made_from  bytea,
    -- They wait for the cluster's unit to have applied what is rendered beside them.
    waits      boolean NOT NULL,
    PRIMARY KEY (app_uid, cluster_id)
);
CREATE INDEX nesting_waits ON nesting (cluster_id, app_uid) WHERE waits;
-- Of what could not be kept: once something goes there, it is looked at again.
CREATE INDEX nesting_unmade ON nesting (cluster_id, app_uid) WHERE made_from IS NULL AND NOT waits;

-- Clusters by the kubeconfigs that apps name them by.
CREATE INDEX resource_kube_config ON resource USING gin ((spec->'kubeConfigRefs')) WHERE kind = 'Cluster';
