-- Programs outside: what they are told over the bus, and what they sent that could not be worked on.

-- The last number of each owner's events that is published.
CREATE TABLE event_cursors (
    owner UUID NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
);

-- The one node that publishes, and the stream as it left it: which making of it, and its last number.
CREATE TABLE event_publisher (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    process UUID NOT NULL,
    lease_until_ms BIGINT NOT NULL,
    stream TEXT,
    stream_seq BIGINT NOT NULL
);

-- Images that came over the bus: what their sender knows them by.
CREATE TABLE submissions (
    image_id UUID NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    object_key TEXT NOT NULL,
    idempotency_key TEXT
);

-- Submissions that failed as often as they may.
CREATE TABLE dead_letters (
    id UUID NOT NULL PRIMARY KEY,
    subject TEXT NOT NULL,
    payload TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    problem TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE INDEX dead_letters_by_time ON dead_letters (created_at_ms);
