-- Uploads that come in pieces (tus). What is acknowledged lies in the object store, piece by piece, and is counted here. Finished
-- ones stay without pieces until they expire, so that a client that missed the last answer finds it.
CREATE TABLE resumable_uploads (
    id BLOB NOT NULL PRIMARY KEY,
    owner BLOB NOT NULL,
    filename TEXT NOT NULL,
    metadata TEXT NOT NULL,
    preset TEXT NOT NULL,
    settings TEXT NOT NULL,
    lane TEXT CHECK (lane IN ('interactive', 'bulk')),
    size_bytes INTEGER NOT NULL,
    offset_bytes INTEGER NOT NULL CHECK (offset_bytes <= size_bytes),
    pieces_count INTEGER NOT NULL,
    submission_key TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    -- The request that may add to it, and until when unless it adds something.
    holder BLOB NOT NULL,
    held_until_ms INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX resumable_uploads_by_key ON resumable_uploads (owner, submission_key);
CREATE INDEX resumable_uploads_by_expiry ON resumable_uploads (expires_at_ms);

CREATE TABLE resumable_pieces (
    id BLOB NOT NULL PRIMARY KEY,
    upload BLOB NOT NULL REFERENCES resumable_uploads (id) ON DELETE CASCADE,
    start_bytes INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    UNIQUE (upload, start_bytes)
) STRICT;
