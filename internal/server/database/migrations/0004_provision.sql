-- What comes of directories, hooks and identity providers that are asked again.

-- Why a person is shut out, a row for each who says so: "hand", "scim", "member ISSUER". A
-- person is let in again when the last one has taken its word back.
CREATE TABLE hold (
    person {text} NOT NULL,
    source {text} NOT NULL,
    since  BIGINT NOT NULL,
    reason {text} NOT NULL,
    PRIMARY KEY (person, source)
);

-- What a directory (SCIM) has said about a person, in its own words.
CREATE TABLE directory (
    person     {text} PRIMARY KEY,
    external   {text} NOT NULL,
    attributes {text} NOT NULL,
    changed    BIGINT NOT NULL
);
CREATE UNIQUE INDEX directory_external ON directory (external) WHERE external <> '';

-- Work that one instance does for all.
CREATE TABLE lease (
    name   {text} PRIMARY KEY,
    holder {text} NOT NULL,
    until  BIGINT NOT NULL
);

-- Events that the hook was run for, or waits for; hook_mark is the time before which all
-- are done, so that the rows before it can go.
CREATE TABLE hook_run (
    event {text} PRIMARY KEY,
    at    BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    due   BIGINT NOT NULL,
    done  BIGINT NOT NULL
);
CREATE TABLE hook_mark (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL
);

-- Accounts that an identity provider has said are no members any more: "waiting" for an
-- administrator, "approved" by one, or "out".
CREATE TABLE leaver (
    issuer  {text} NOT NULL,
    subject {text} NOT NULL,
    person  {text} NOT NULL,
    state   {text} NOT NULL,
    since   BIGINT NOT NULL,
    why     {text} NOT NULL,
    PRIMARY KEY (issuer, subject)
);
-- How the last look at each issuer went.
CREATE TABLE membership_look (
    issuer   {text} PRIMARY KEY,
    asked    BIGINT NOT NULL,
    answered BIGINT NOT NULL,
    accounts BIGINT NOT NULL,
    gone     BIGINT NOT NULL,
    trouble  {text} NOT NULL
);

-- Refresh tokens of identity providers, sealed under a key that is not in the database.
CREATE TABLE upstream_grant (
    issuer  {text} NOT NULL,
    subject {text} NOT NULL,
    sealed  BYTEA NOT NULL,
    kept    BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
