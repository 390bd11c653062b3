-- What is told of something that is gone by then names it, and nothing else: found by that name.
CREATE INDEX event_gone ON event (object, id) WHERE resource_uid IS NULL AND cluster_id IS NULL;
