-- The number of a change of what is due is never given again: a mark that was taken away and written anew would begin at a
-- number that a hub which stood still has read of the former one, and takes away with its late decision.
CREATE SEQUENCE due_change AS bigint;
SELECT setval('due_change', (SELECT coalesce(max(change), 0) + 1 FROM due));
ALTER TABLE due ALTER COLUMN change SET DEFAULT nextval('due_change');
