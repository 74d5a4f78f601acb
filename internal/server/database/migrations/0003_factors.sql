-- Second factors. Seeds are sealed under a key that is not here; recovery codes are
-- SHA-256 of 100 random bits; a passkey is a public key.

CREATE TABLE passkey (
    id         BYTEA PRIMARY KEY,
    person     {text} NOT NULL,
    name       {text} NOT NULL,
    public_key BYTEA NOT NULL,
    counter    BIGINT NOT NULL,
    synced     BOOLEAN NOT NULL,
    saved      BOOLEAN NOT NULL,
    transports {text} NOT NULL,
    created    BIGINT NOT NULL,
    last_use   BIGINT NOT NULL,
    last_from  {text} NOT NULL
);
CREATE INDEX passkey_person ON passkey (person);

CREATE TABLE totp (
    person   {text} PRIMARY KEY,
    sealed   BYTEA NOT NULL,
    step     BIGINT NOT NULL,
    created  BIGINT NOT NULL,
    last_use BIGINT NOT NULL
);

CREATE TABLE recovery_code (
    person  {text} NOT NULL,
    digest  BYTEA NOT NULL,
    created BIGINT NOT NULL,
    used    BIGINT NOT NULL,
    PRIMARY KEY (person, digest)
);

-- Which second factor a browser has proved; empty: none.
ALTER TABLE session ADD COLUMN factor {text} NOT NULL DEFAULT '';
