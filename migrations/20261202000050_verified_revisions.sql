-- Whose signatures were verified when a revision was recorded, in a sentence; '' where none were asked for.
ALTER TABLE revision ADD COLUMN verified text NOT NULL DEFAULT '';
