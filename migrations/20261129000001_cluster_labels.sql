-- Which clusters a placement may choose is asked by their names and labels: a look at one app reads no others.
CREATE INDEX resource_cluster_labels ON resource USING gin (labels) WHERE kind = 'Cluster';

-- Whether this is a map of texts, as labels and variables are.
CREATE FUNCTION is_text_map(map jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN jsonb_typeof(map) = 'object' AND NOT jsonb_path_exists(map, '$.* ? (@.type() != "string")');

-- Clusters of which it cannot be said whether they are chosen.
CREATE INDEX resource_cluster_unreadable ON resource (name)
    WHERE kind = 'Cluster' AND NOT (is_text_map(labels) AND is_text_map(coalesce(spec->'variables', '{}')));
