-- What is shown of clusters and units: each rule once, for lists, sums and whoever waits.

-- A cluster is connected while the hub that holds its stream lives, which is heard of by that hub as well.
CREATE VIEW presence AS
    SELECT s.cluster_id, (s.connected AND h.name IS NOT NULL) IS TRUE AS connected,
           CASE WHEN s.connected THEN greatest(s.last_seen, h.heartbeat) ELSE s.last_seen END AS last_seen
    FROM session s LEFT JOIN replica h ON h.name = s.replica AND is_alive(h.heartbeat);

-- What an agent says of the entries that it is offered: that it has one, be it with its whole generation, or why it does
-- not take it.
CREATE VIEW entry_answer AS
    -- Who refuses an entry may have taken it before, and hold the generation that has it.
    SELECT e.cluster_id, e.unit_id, k.accepted AND f.unit_id IS NULL AS accepted, f.unit_id IS NOT NULL AS refused,
           f.reason, f.message, f.at
    FROM desired_entry e
    JOIN desired d ON d.cluster_id = e.cluster_id
    JOIN session s ON s.cluster_id = e.cluster_id
    LEFT JOIN unit_accepted a ON a.cluster_id = e.cluster_id AND a.unit_id = e.unit_id AND a.entry = e.digest
    LEFT JOIN unit_refused f ON f.cluster_id = e.cluster_id AND f.unit_id = e.unit_id AND f.entry = e.digest
    CROSS JOIN LATERAL (
        SELECT a.unit_id IS NOT NULL
               OR (s.accepted_incarnation = d.incarnation AND s.accepted_generation >= e.since_generation) AS accepted
    ) AS k;

CREATE VIEW unit_shown AS
    SELECT u.id, u.app_uid, u.cluster_id, c.name AS cluster, u.state, u.version, u.cause, u.waiting, u.requested,
           t.content, l.content AS applied_content,
           coalesce(s.version = u.version, false) AS current,
           coalesce((s.applied_version, s.applied) = (u.version, u.target), false) AS applied,
           f.unit_id IS NOT NULL AS refused,
           CASE WHEN f.unit_id IS NOT NULL THEN 'False' WHEN s.version = u.version THEN s.ready ELSE 'Unknown' END
             AS ready,
           coalesce(f.reason, s.reason, '') AS reason, coalesce(f.message, s.message, '') AS message,
           coalesce(s.notes, '') AS notes,
           coalesce(s.health, '') AS health,
           coalesce(s.objects, 0) AS objects, coalesce(s.objects_failed, 0) AS objects_failed,
           coalesce(s.objects_pending_removal, 0) AS objects_pending_removal, s.observed_at,
           -- When what is said of it turned, in the order in which it is said.
           CASE WHEN p.connected IS NOT TRUE AND is_alive(p.last_seen) IS NOT TRUE
                  THEN greatest(p.last_seen + interval '90 seconds', u.created_at)
                WHEN u.waiting <> '[]' THEN u.held_at
                WHEN f.unit_id IS NOT NULL THEN greatest(f.at, u.held_at)
                WHEN s.version = u.version THEN greatest(s.turned_at, u.held_at)
                ELSE greatest(u.moved_at, u.held_at) END AS turned_at,
           coalesce(p.connected, false) AS connected, p.last_seen, is_alive(p.last_seen) IS NOT TRUE AS silent
    FROM unit u
    JOIN cluster c ON c.id = u.cluster_id
    JOIN target t ON t.digest = u.target
    LEFT JOIN unit_status s ON s.unit_id = u.id
    -- Looked up for each unit alone: as a rule there is none. What is not published yet was not offered.
    LEFT JOIN LATERAL (
        SELECT a.unit_id, a.reason, a.message, a.at FROM unit_refused r JOIN entry_answer a USING (cluster_id, unit_id)
        WHERE r.cluster_id = u.cluster_id AND r.unit_id = u.id AND a.refused
          AND NOT EXISTS (SELECT FROM unpublished n WHERE (n.cluster_id, n.unit_id) = (u.cluster_id, u.id)) LIMIT 1
    ) AS f ON true
    -- Also when a newer target fails.
    LEFT JOIN target l ON l.digest = s.applied
    LEFT JOIN presence p ON p.cluster_id = u.cluster_id;
