-- Nodes and the leases by which others know that they live. `view` is what a node shows of itself, `wish` what another
-- node asks it to change, both JSON.
CREATE TABLE nodes (
    name TEXT NOT NULL PRIMARY KEY,
    process BLOB NOT NULL,
    view TEXT NOT NULL,
    wish TEXT,
    lease_until_ms INTEGER NOT NULL
) STRICT;
