-- What each owner uses and may use, what their bytes are known by, and accounts that are disabled.

-- Bytes of all images of an owner with their files. Changed by the commits that add and remove them.
CREATE TABLE owner_usage (
    owner BLOB NOT NULL PRIMARY KEY,
    stored_bytes INTEGER NOT NULL
) STRICT;

INSERT INTO owner_usage (owner, stored_bytes)
SELECT owner, sum(size_bytes) FROM (
    SELECT owner, size_bytes FROM images
    UNION ALL SELECT jobs.owner, files.size_bytes FROM files JOIN jobs ON jobs.id = files.job_id
) AS stored GROUP BY owner;

-- Pixels that were taken in each minute. They count for a day, even if the image is deleted meanwhile.
CREATE TABLE owner_pixels (
    owner BLOB NOT NULL,
    minute_ms INTEGER NOT NULL,
    pixels INTEGER NOT NULL,
    PRIMARY KEY (owner, minute_ms)
) STRICT;

CREATE INDEX owner_pixels_by_time ON owner_pixels (minute_ms);

-- Bounds that an administrator has set. Null: as the settings say; 0: none.
CREATE TABLE owner_quotas (
    owner BLOB NOT NULL PRIMARY KEY,
    stored_bytes_max INTEGER,
    pixels_per_day_max INTEGER,
    jobs_queued_max INTEGER
) STRICT;

-- By which the same bytes are found again, and how many pixels all pages have: null where only the header of the first was kept.
CREATE TABLE contents (
    image_id BLOB NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    owner BLOB NOT NULL,
    sha256 TEXT NOT NULL,
    pixels INTEGER
) STRICT;

INSERT INTO contents (image_id, owner, sha256) SELECT id, owner, sha256 FROM images;

CREATE INDEX contents_by_hash ON contents (owner, sha256);

-- Bytes that an announced upload will need, until it is completed; and whether it may be answered with what is there.
ALTER TABLE uploads ADD COLUMN reserved_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN dedup INTEGER NOT NULL DEFAULT 0;
-- No more rows than uploads.open_max, so that nobody waits for it.
CREATE INDEX uploads_of_owner ON uploads (owner);

-- Nobody comes in by an account that has a time here.
ALTER TABLE accounts ADD COLUMN disabled_at_ms INTEGER;
