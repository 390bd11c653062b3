-- What a unit needs before it, as its entry has it: apps by name, each with the units that the name may lead to.
ALTER TABLE unit ADD COLUMN depends_on jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(depends_on) = 'array');

-- Apps that are held because one of these apps was not planned as it is to be: planned again once it is.
CREATE FUNCTION dependents_waiting(planned uuid[]) RETURNS SETOF uuid LANGUAGE sql STABLE
    BEGIN ATOMIC
    SELECT f.referrer FROM resource r
        JOIN reference f ON f.kind = r.kind AND f.namespace = r.namespace AND f.name = r.name
            AND f.scope = ANY (ARRAY[r.scope, '00000000-0000-0000-0000-000000000000'::uuid])
        JOIN app_plan p ON p.app_uid = f.referrer
    WHERE r.uid = ANY (planned)
        AND (p.waiting @> '[{"reason": "DependencyNotReady"}]' OR p.waiting @> '[{"reason": "DependencyCycle"}]');
    END;
