-- Where a hub keeps artifacts: hubs with the same share one store. Empty: not said.
ALTER TABLE replica ADD COLUMN artifact_store text NOT NULL DEFAULT '';
