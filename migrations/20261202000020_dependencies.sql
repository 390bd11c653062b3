-- What a unit needs before it, as its entry has it: apps by name, each with the units that the name may lead to.
ALTER TABLE unit ADD COLUMN depends_on jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(depends_on) = 'array');

-- Apps that are held because one of these apps was not planned as it is to be: planned again once it is. Those that name it
-- are looked up first, and then whether each is held: of all others nothing is read, however many wait for something.
CREATE FUNCTION dependents_waiting(planned uuid[]) RETURNS SETOF uuid LANGUAGE sql STABLE
    BEGIN ATOMIC
    SELECT f.referrer FROM unnest(planned) AS v(uid)
        CROSS JOIN LATERAL (SELECT kind, scope, namespace, name FROM resource WHERE uid = v.uid OFFSET 0) AS r
        CROSS JOIN LATERAL (
            SELECT referrer FROM reference
            WHERE kind = r.kind AND scope = r.scope AND namespace = r.namespace AND name = r.name
            UNION ALL
            -- The fleet's apps need what each cluster has of the name; other clusters' apps do not.
            SELECT referrer FROM reference
            WHERE r.scope <> fleet() AND kind = r.kind AND scope = fleet() AND namespace = r.namespace AND name = r.name
                AND of_scope = fleet()
            OFFSET 0) AS f
        CROSS JOIN LATERAL (SELECT waiting FROM app_plan WHERE app_uid = f.referrer OFFSET 0) AS p
    WHERE p.waiting @> '[{"reason": "DependencyNotReady"}]' OR p.waiting @> '[{"reason": "DependencyCycle"}]';
    END;
