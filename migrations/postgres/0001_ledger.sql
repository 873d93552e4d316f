-- The ledger. Times are milliseconds since 1970 (UTC) by the clock of the database, JSON is text: what a worker says may
-- hold an escaped NUL, which jsonb refuses. What a CHECK says is what `src/job/state.rs` says; the checks stop a program
-- that is wrong, the program does not lean on them. Same tables and columns as for SQLite, so that statements are shared.
-- How migrations are written: migrations/README.md.

-- The lowest level (number of the last migration that a program knows) that can work with this schema.
CREATE TABLE schema_floor (level BIGINT NOT NULL);
INSERT INTO schema_floor (level) VALUES (1);

CREATE TABLE images (
    id UUID NOT NULL PRIMARY KEY,
    owner UUID NOT NULL,
    filename TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    width_px BIGINT,
    height_px BIGINT,
    pages_count BIGINT,
    created_at_ms BIGINT NOT NULL
);

-- Lists by key set.
CREATE INDEX images_of_owner ON images (owner, id);

CREATE TABLE jobs (
    id UUID NOT NULL PRIMARY KEY,
    owner UUID NOT NULL,
    image_id UUID NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    preset TEXT NOT NULL,
    spec TEXT NOT NULL,
    lane TEXT NOT NULL CHECK (lane IN ('interactive', 'bulk')),
    state TEXT NOT NULL CHECK (state IN ('queued', 'released', 'running', 'succeeded', 'failed', 'cancelled')),
    starts BIGINT NOT NULL CHECK (starts >= attempt),
    attempt BIGINT NOT NULL CHECK (attempt BETWEEN 0 AND attempts_max),
    attempts_max BIGINT NOT NULL,
    crashes BIGINT NOT NULL CHECK (crashes BETWEEN 0 AND crashes_max),
    crashes_max BIGINT NOT NULL,
    run_at_ms BIGINT NOT NULL,
    cancel_requested BOOLEAN NOT NULL CHECK (NOT cancel_requested OR state NOT IN ('queued', 'released')),
    stage TEXT,
    progress REAL NOT NULL,
    created_at_ms BIGINT NOT NULL,
    started_at_ms BIGINT,
    finished_at_ms BIGINT CHECK ((finished_at_ms IS NULL) = (state IN ('queued', 'released', 'running'))),
    node TEXT,
    incarnation TEXT,
    slot BIGINT,
    error TEXT,
    gate TEXT
);

-- Lists by key set; the second also counts an owner's unfinished jobs.
CREATE INDEX jobs_of_owner ON jobs (owner, id);
CREATE INDEX jobs_of_owner_by_state ON jobs (owner, state, id);
CREATE INDEX jobs_of_image ON jobs (image_id, id);
-- Queue length and counts look at unfinished jobs alone, however many have ended.
CREATE INDEX jobs_unfinished ON jobs (lane, state) WHERE finished_at_ms IS NULL;
CREATE INDEX jobs_running ON jobs (node) WHERE state = 'running';
CREATE INDEX jobs_released ON jobs (id) WHERE state = 'released';
CREATE INDEX jobs_succeeded ON jobs (finished_at_ms) WHERE state = 'succeeded';

-- One row for every queued job and for no other: what the relay still has to bring to the bus.
CREATE TABLE outbox (
    job_id UUID NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    owner UUID NOT NULL,
    lane TEXT NOT NULL,
    run_at_ms BIGINT NOT NULL
);

CREATE INDEX outbox_by_owner ON outbox (lane, owner, run_at_ms, job_id);
CREATE INDEX outbox_by_time ON outbox (run_at_ms);

-- Visible outputs.
CREATE TABLE files (
    job_id UUID NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    ordinal BIGINT NOT NULL,
    start BIGINT NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    width_px BIGINT,
    height_px BIGINT,
    PRIMARY KEY (job_id, ordinal),
    UNIQUE (job_id, name)
);

-- The last number that each owner's events have. Taken as the last thing before a commit and held until it, so that an
-- owner's numbers become visible in their order. Never goes back, even after all events are gone, since clients keep the
-- number as Last-Event-ID.
CREATE TABLE event_heads (
    owner UUID NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    moved_at_ms BIGINT NOT NULL
);

CREATE INDEX event_heads_by_time ON event_heads (moved_at_ms);

-- Outlive their job until they are pruned, so that a client that was away learns what happened.
CREATE TABLE events (
    owner UUID NOT NULL,
    seq BIGINT NOT NULL,
    job_id UUID NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (owner, seq)
);

CREATE INDEX events_of_job ON events (job_id, seq);
CREATE INDEX events_by_time ON events (at_ms);

CREATE TABLE idempotency (
    owner UUID NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    answer TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (owner, idempotency_key)
);

CREATE INDEX idempotency_by_time ON idempotency (created_at_ms);

-- Objects whose rows are gone and that still have to be removed.
CREATE TABLE garbage (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('original', 'outputs')),
    target UUID NOT NULL,
    created_at_ms BIGINT NOT NULL
);
