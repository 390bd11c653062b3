-- What a rendering read of its source: while a later revision holds the same, its content is taken over.

-- zstd of the engine's read set as JSON; NULL where the engine records none, and for all but the newest revision.
ALTER TABLE rendered ADD COLUMN reads bytea;
