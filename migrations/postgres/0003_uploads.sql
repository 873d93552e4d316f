-- Uploads that were announced: their bytes are on the way past this server. Gone when they have expired.
CREATE TABLE uploads (
    id UUID NOT NULL PRIMARY KEY,
    owner UUID NOT NULL,
    filename TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    preset TEXT NOT NULL,
    settings TEXT NOT NULL,
    lane TEXT CHECK (lane IN ('interactive', 'bulk')),
    expires_at_ms BIGINT NOT NULL
);

CREATE INDEX uploads_by_expiry ON uploads (expires_at_ms);
