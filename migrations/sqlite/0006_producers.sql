-- Programs outside: what they are told over the bus, and what they sent that could not be worked on.

-- The last number of each owner's events that is published. On SQLite numbers go over all owners, and so does the highest.
CREATE TABLE event_cursors (
    owner BLOB NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT;

-- The one node that publishes, and the stream as it left it: which making of it, and its last number.
CREATE TABLE event_publisher (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    process BLOB NOT NULL,
    lease_until_ms INTEGER NOT NULL,
    stream TEXT,
    stream_seq INTEGER NOT NULL
) STRICT;

-- Images that came over the bus: what their sender knows them by.
CREATE TABLE submissions (
    image_id BLOB NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    object_key TEXT NOT NULL,
    idempotency_key TEXT
) STRICT;

-- Submissions that failed as often as they may.
CREATE TABLE dead_letters (
    id BLOB NOT NULL PRIMARY KEY,
    subject TEXT NOT NULL,
    payload TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    problem TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX dead_letters_by_time ON dead_letters (created_at_ms);
