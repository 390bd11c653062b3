-- Keys and indexes that each row paid for and nothing needs of each row.

-- A unit gets the revision that its plan has just read as its source's present one, which what removes the unused leaves, as it
-- leaves all that units name. Whoever deletes a source takes its revisions out of the units. A plan that is committed beside that
-- may name one that is gone: it is shown as none. Who has a revision or a rollout is asked once an hour, of all units at once.
ALTER TABLE unit DROP CONSTRAINT unit_revision_id_fkey;
DROP INDEX unit_revision;
DROP INDEX unit_rollout;

-- One index for both questions: what a source's present revision is rendered to, and all that goes with a source.
DROP INDEX input_source;
DROP INDEX input_of_source;
CREATE INDEX input_of_source ON input_at (source_uid, newest);

-- What a part, a content or a set of keys holds is written by the statement that writes it, and by none after that: it goes with
-- it all the same. What parts name of objects, and contents of parts, is proved for each row as before: that may be going.
ALTER TABLE part_object DROP CONSTRAINT part_object_part_fkey;
ALTER TABLE content_part DROP CONSTRAINT content_part_content_fkey;
ALTER TABLE keyset_key DROP CONSTRAINT keyset_key_keyset_fkey;

-- What is reported of a unit is written by who holds its cluster's session, and has looked the unit up since. Whoever deletes
-- units holds these sessions too.
ALTER TABLE unit_status DROP CONSTRAINT unit_status_unit_id_fkey;
ALTER TABLE unit_object DROP CONSTRAINT unit_object_unit_id_fkey;

-- Looked up by an array: how many rows there are is not known to whoever plans these.
CREATE FUNCTION remove_part_objects() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM part_object WHERE part = ANY (ARRAY(SELECT digest FROM gone));
    RETURN NULL;
END $$;
CREATE TRIGGER part_gone AFTER DELETE ON part REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION remove_part_objects();

CREATE FUNCTION remove_content_parts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM content_part WHERE content = ANY (ARRAY(SELECT digest FROM gone));
    RETURN NULL;
END $$;
CREATE TRIGGER content_gone AFTER DELETE ON content REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION remove_content_parts();

CREATE FUNCTION remove_keyset_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM keyset_key WHERE keyset = ANY (ARRAY(SELECT digest FROM gone));
    RETURN NULL;
END $$;
CREATE TRIGGER keyset_gone AFTER DELETE ON keyset REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION remove_keyset_keys();

CREATE FUNCTION remove_reported() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM unit_status WHERE unit_id = ANY (ARRAY(SELECT id FROM gone));
    DELETE FROM unit_object WHERE unit_id = ANY (ARRAY(SELECT id FROM gone));
    RETURN NULL;
END $$;
CREATE TRIGGER unit_gone AFTER DELETE ON unit REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION remove_reported();
