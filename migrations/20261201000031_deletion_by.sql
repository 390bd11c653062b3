-- Who has asked last for the deletion of an app, as long as that lasts.
ALTER TABLE resource ADD COLUMN deletion_by text;
