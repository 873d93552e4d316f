-- The ledger. Times are milliseconds since 1970 (UTC), identifiers the 16 bytes of a UUID version 7, JSON is text.
-- What a CHECK says is what `src/job/state.rs` says; the checks stop a program that is wrong, the program does not lean
-- on them.

CREATE TABLE images (
    id BLOB NOT NULL PRIMARY KEY,
    owner BLOB NOT NULL,
    filename TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    width_px INTEGER,
    height_px INTEGER,
    pages_count INTEGER,
    created_at_ms INTEGER NOT NULL
) STRICT;

-- Lists by key set.
CREATE INDEX images_of_owner ON images (owner, id);

CREATE TABLE jobs (
    id BLOB NOT NULL PRIMARY KEY,
    owner BLOB NOT NULL,
    image_id BLOB NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    preset TEXT NOT NULL,
    spec TEXT NOT NULL,
    lane TEXT NOT NULL CHECK (lane IN ('interactive', 'bulk')),
    state TEXT NOT NULL CHECK (state IN ('queued', 'released', 'running', 'succeeded', 'failed', 'cancelled')),
    starts INTEGER NOT NULL CHECK (starts >= attempt),
    attempt INTEGER NOT NULL CHECK (attempt BETWEEN 0 AND attempts_max),
    attempts_max INTEGER NOT NULL,
    crashes INTEGER NOT NULL CHECK (crashes BETWEEN 0 AND crashes_max),
    crashes_max INTEGER NOT NULL,
    run_at_ms INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL CHECK (cancel_requested = 0 OR state NOT IN ('queued', 'released')),
    stage TEXT,
    progress REAL NOT NULL,
    created_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER,
    finished_at_ms INTEGER CHECK ((finished_at_ms IS NULL) = (state IN ('queued', 'released', 'running'))),
    node TEXT,
    incarnation TEXT,
    slot INTEGER,
    error TEXT,
    gate TEXT
) STRICT;

-- Lists by key set; the second also counts an owner's unfinished jobs.
CREATE INDEX jobs_of_owner ON jobs (owner, id);
CREATE INDEX jobs_of_owner_by_state ON jobs (owner, state, id);
CREATE INDEX jobs_of_image ON jobs (image_id, id);
-- Queue length and counts look at unfinished jobs alone, however many have ended. The last column is always null; SQLite
-- needs it to answer from the index without the table.
CREATE INDEX jobs_unfinished ON jobs (lane, state, finished_at_ms) WHERE finished_at_ms IS NULL;
CREATE INDEX jobs_running ON jobs (node) WHERE state = 'running';
CREATE INDEX jobs_released ON jobs (id) WHERE state = 'released';
CREATE INDEX jobs_succeeded ON jobs (finished_at_ms) WHERE state = 'succeeded';

-- One row for every queued job and for no other: what the relay still has to bring to the bus.
CREATE TABLE outbox (
    job_id BLOB NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    owner BLOB NOT NULL,
    lane TEXT NOT NULL,
    run_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_by_owner ON outbox (lane, owner, run_at_ms, job_id);
CREATE INDEX outbox_by_time ON outbox (run_at_ms);

-- Visible outputs.
CREATE TABLE files (
    job_id BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    start INTEGER NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    width_px INTEGER,
    height_px INTEGER,
    PRIMARY KEY (job_id, ordinal),
    UNIQUE (job_id, name)
) STRICT;

-- Outlive their job until they are pruned, so that a client that was away learns what happened. AUTOINCREMENT: a number
-- is never given twice, even after all rows are gone, since clients keep it as Last-Event-ID.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    owner BLOB NOT NULL,
    job_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX events_of_owner ON events (owner, seq);
CREATE INDEX events_of_job ON events (job_id, seq);

CREATE TABLE idempotency (
    owner BLOB NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    answer TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, idempotency_key)
) STRICT;

CREATE INDEX idempotency_by_time ON idempotency (created_at_ms);

-- Objects whose rows are gone and that still have to be removed.
CREATE TABLE garbage (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('original', 'outputs')),
    target BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;
