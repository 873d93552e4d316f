-- What each owner uses and may use, what their bytes are known by, and accounts that are disabled.

-- Bytes of all images of an owner with their files. Changed by the commits that add and remove them.
CREATE TABLE owner_usage (
    owner UUID NOT NULL PRIMARY KEY,
    stored_bytes BIGINT NOT NULL
);

INSERT INTO owner_usage (owner, stored_bytes)
SELECT owner, sum(size_bytes)::bigint FROM (
    SELECT owner, size_bytes FROM images
    UNION ALL SELECT jobs.owner, files.size_bytes FROM files JOIN jobs ON jobs.id = files.job_id
) AS stored GROUP BY owner;

-- Pixels that were taken in each minute. They count for a day, even if the image is deleted meanwhile.
CREATE TABLE owner_pixels (
    owner UUID NOT NULL,
    minute_ms BIGINT NOT NULL,
    pixels BIGINT NOT NULL,
    PRIMARY KEY (owner, minute_ms)
);

CREATE INDEX owner_pixels_by_time ON owner_pixels (minute_ms);

-- Bounds that an administrator has set. Null: as the settings say; 0: none.
CREATE TABLE owner_quotas (
    owner UUID NOT NULL PRIMARY KEY,
    stored_bytes_max BIGINT,
    pixels_per_day_max BIGINT,
    jobs_queued_max BIGINT
);

-- By which the same bytes are found again, and how many pixels all pages have: null where only the header of the first was kept.
CREATE TABLE contents (
    image_id UUID NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    owner UUID NOT NULL,
    sha256 TEXT NOT NULL,
    pixels BIGINT
);

INSERT INTO contents (image_id, owner, sha256) SELECT id, owner, sha256 FROM images;

CREATE INDEX contents_by_hash ON contents (owner, sha256);

-- Bytes that an announced upload will need, until it is completed; and whether it may be answered with what is there.
ALTER TABLE uploads ADD COLUMN reserved_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN dedup BOOLEAN NOT NULL DEFAULT FALSE;
-- No more rows than uploads.open_max, so that nobody waits for it.
CREATE INDEX uploads_of_owner ON uploads (owner);

-- Nobody comes in by an account that has a time here.
ALTER TABLE accounts ADD COLUMN disabled_at_ms BIGINT;
