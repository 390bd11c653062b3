-- A condition that the server can take into the column's own: as a query of its own it was begun anew for each row, twice for one
-- that is written again, and cost as much as the row.
CREATE OR REPLACE FUNCTION holds_claims(waiting jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN waiting <> '[]' AND jsonb_path_exists(waiting, '$[*].reason ? (@ <> "Claimed")');
