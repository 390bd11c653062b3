-- What is shown of clusters and units: each rule once, for lists, sums and whoever waits.

-- A cluster is connected while the hub that holds its stream lives, which is heard of by that hub as well.
CREATE VIEW presence AS
    SELECT s.cluster_id, (s.connected AND h.name IS NOT NULL) IS TRUE AS connected,
           CASE WHEN s.connected THEN greatest(s.last_seen, h.heartbeat) ELSE s.last_seen END AS last_seen
    FROM session s LEFT JOIN replica h ON h.name = s.replica AND is_alive(h.heartbeat);

CREATE VIEW unit_shown AS
    SELECT u.id, u.app_uid, u.cluster_id, c.name AS cluster, u.state, u.version, u.cause, u.waiting, u.requested,
           t.content, l.content AS applied_content,
           coalesce(s.version = u.version, false) AS current,
           coalesce((s.applied_version, s.applied) = (u.version, u.target), false) AS applied,
           coalesce(CASE WHEN s.version = u.version THEN s.ready END, 'Unknown') AS ready,
           coalesce(s.reason, '') AS reason, coalesce(s.message, '') AS message, coalesce(s.notes, '') AS notes,
           coalesce(s.health, '') AS health,
           coalesce(s.objects, 0) AS objects, coalesce(s.objects_failed, 0) AS objects_failed,
           coalesce(s.objects_pending_removal, 0) AS objects_pending_removal, s.observed_at,
           greatest(u.updated_at, s.received_at) AS changed_at,
           coalesce(p.connected, false) AS connected, p.last_seen, is_alive(p.last_seen) IS NOT TRUE AS silent
    FROM unit u
    JOIN cluster c ON c.id = u.cluster_id
    JOIN target t ON t.digest = u.target
    LEFT JOIN unit_status s ON s.unit_id = u.id
    -- Also when a newer target fails.
    LEFT JOIN target l ON l.digest = s.applied
    LEFT JOIN presence p ON p.cluster_id = u.cluster_id;
