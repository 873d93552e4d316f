-- Addresses that are told by HTTP what becomes of jobs, and what was brought there.

CREATE TABLE webhooks (
    id BLOB NOT NULL PRIMARY KEY,
    owner BLOB NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    -- Host and port: what deliveries at once are counted by.
    host TEXT NOT NULL,
    -- Kinds of events, a JSON list.
    kinds TEXT NOT NULL,
    -- It signs, so it is kept as it is. The one before it signs as well until its time.
    secret TEXT NOT NULL,
    secret_before TEXT,
    secret_before_until_ms INTEGER,
    enabled INTEGER NOT NULL,
    -- Why it was switched off, when nobody asked for it.
    off_reason TEXT,
    off_at_ms INTEGER,
    -- The last event of the owner that deliveries were made of.
    seq INTEGER NOT NULL,
    -- Attempts that failed one after the other, and when the first of them did.
    failures INTEGER NOT NULL,
    failing_since_ms INTEGER,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX webhooks_of_owner ON webhooks (owner, id);

-- What is to be brought, and what was: work and log in one.
CREATE TABLE webhook_deliveries (
    id BLOB NOT NULL PRIMARY KEY,
    webhook_id BLOB NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    -- Of the event; null for a ping.
    seq INTEGER,
    kind TEXT NOT NULL,
    -- As it is sent, byte for byte.
    body TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempt INTEGER NOT NULL,
    -- Of a pending one: not before. While somebody brings it: when it is somebody else's.
    due_at_ms INTEGER NOT NULL,
    claim BLOB,
    created_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER CHECK ((ended_at_ms IS NULL) = (state = 'pending')),
    -- The last attempts, a JSON list.
    tries TEXT NOT NULL,
    -- An event makes one delivery, however often it is looked at.
    UNIQUE (webhook_id, seq, kind)
) STRICT;

CREATE INDEX webhook_deliveries_of_hook ON webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at_ms) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_claimed ON webhook_deliveries (claim) WHERE claim IS NOT NULL;
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (created_at_ms);
