-- A revision that was the present one before, and of which it is not told yet whether what came after it follows it: a hub that
-- ends between recording a commit and looking at its history has not forgotten to look. '' where all is told.
ALTER TABLE source_state ADD COLUMN former_revision text NOT NULL DEFAULT '';
ALTER TABLE source_state ADD COLUMN former_commit text NOT NULL DEFAULT '';
