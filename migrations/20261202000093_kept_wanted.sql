-- What an app renders for a cluster and another app keeps there, each as group/kind/namespace/name: once that one renders it no
-- more it is handed over, and never deleted.
ALTER TABLE nesting ADD COLUMN wants text[] NOT NULL DEFAULT '{}';
CREATE INDEX nesting_wants ON nesting (cluster_id) WHERE wants <> '{}';

-- Whether an object is an app itself, or one of those that keep it.
CREATE FUNCTION keeps(keeper uuid, kept uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    WITH RECURSIVE up AS (
        SELECT owner, 1 AS place FROM resource WHERE uid = kept
        UNION ALL
        SELECT r.owner, up.place + 1 FROM up JOIN resource r ON r.uid = up.owner WHERE up.place < 64)
    SELECT keeper = kept OR EXISTS (SELECT FROM up WHERE up.owner = keeper)
$$;

-- The app that an object goes to which its own renders no more; NULL: none renders it.
CREATE FUNCTION heir(kept uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT n.app_uid FROM resource x
    JOIN nesting n ON n.cluster_id = x.scope AND n.wants <> '{}' AND n.app_uid <> x.owner
    JOIN resource b ON b.uid = n.app_uid AND b.deleting_at IS NULL
    JOIN unit u ON u.app_uid = n.app_uid AND u.cluster_id = n.cluster_id AND u.state = 'Active'
    WHERE x.uid = kept AND concat_ws('/', x.api_group, x.kind, x.namespace, x.name) = ANY (n.wants)
      AND NOT keeps(x.uid, n.app_uid)
    ORDER BY n.app_uid LIMIT 1
$$;
