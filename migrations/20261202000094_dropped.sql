-- Whether an app is being deleted because the one that keeps it renders it no more, or one of those above it: nobody has asked
-- for it.
CREATE FUNCTION is_dropped(app uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    WITH RECURSIVE up AS (
        SELECT o.uid AS owner, o.deleting_at IS NOT NULL AS goes, 1 AS place
        FROM resource r JOIN resource o ON o.uid = r.owner
        WHERE r.uid = app AND r.deleting_at IS NOT NULL AND r.deletion_by = object_name(o.kind, o.namespace, o.name)
        UNION ALL
        SELECT o.uid, o.deleting_at IS NOT NULL, up.place + 1
        FROM up JOIN resource r ON r.uid = up.owner JOIN resource o ON o.uid = r.owner
        WHERE up.goes AND up.place < 64 AND r.deletion_by = object_name(o.kind, o.namespace, o.name))
    SELECT EXISTS (SELECT FROM up WHERE NOT goes)
$$;
