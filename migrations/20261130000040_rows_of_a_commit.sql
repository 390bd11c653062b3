-- A commit on ten thousand clusters writes as many rows of each of these tables, and asked for each of them whether what all of
-- them name is there.

-- A unit gets the rollout that its plan has just opened, and the target that its plan has just touched: what removes the unused
-- leaves both, since it looks for units that name them, and waits for whoever touches a target.
ALTER TABLE unit DROP CONSTRAINT unit_rollout_id_fkey, DROP CONSTRAINT unit_target_fkey;

-- An entry has the content of its unit's target, which history keeps for as long as the content may be the entry's.
ALTER TABLE desired_entry DROP CONSTRAINT desired_entry_content_fkey;

-- Admissions are written with their rollout, and go with it.
ALTER TABLE admission DROP CONSTRAINT admission_rollout_id_fkey;
CREATE FUNCTION remove_admissions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM admission a USING gone WHERE a.rollout_id = gone.id;
    RETURN NULL;
END $$;
CREATE TRIGGER rollout_gone AFTER DELETE ON rollout REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION remove_admissions();

-- Nothing asks who has accepted a target but what removes the unused, once an hour, which goes through all as it does for what
-- is applied. Without it an acknowledgement writes no index.
DROP INDEX unit_accepted_target;
ALTER TABLE unit_accepted SET (fillfactor = 70);
