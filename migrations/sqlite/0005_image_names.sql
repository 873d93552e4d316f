-- The name in small letters, by which images are searched. Null: written by the program before; then the database's own
-- lower(filename) has to do.
ALTER TABLE images ADD COLUMN name_folded TEXT;
