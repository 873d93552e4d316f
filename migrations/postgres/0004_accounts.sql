-- Accounts and what lets somebody in. Nothing here can be used to log in: passwords are argon2id, secrets SHA-256.

CREATE TABLE accounts (
    id UUID NOT NULL PRIMARY KEY,
    -- Whose images and jobs are theirs.
    owner UUID NOT NULL UNIQUE,
    username TEXT NOT NULL,
    -- In small letters: two names that look alike are one.
    username_key TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'user')),
    created_at_ms BIGINT NOT NULL
);

-- Sessions of browsers and tokens of programs: found by the hash of their secret.
CREATE TABLE credentials (
    id UUID NOT NULL PRIMARY KEY,
    account_id UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('session', 'token')),
    secret_sha256 TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    used_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT CHECK (kind = 'token' OR expires_at_ms IS NOT NULL)
);

CREATE INDEX credentials_of_account ON credentials (account_id, kind, id);
CREATE INDEX credentials_by_expiry ON credentials (expires_at_ms) WHERE expires_at_ms IS NOT NULL;

-- Good for one account each; the row goes when it is used.
CREATE TABLE invitations (
    id UUID NOT NULL PRIMARY KEY,
    code_sha256 TEXT NOT NULL UNIQUE,
    created_by UUID NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL
);

CREATE INDEX invitations_by_expiry ON invitations (expires_at_ms);
