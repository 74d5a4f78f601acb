-- Programs that an administrator entered. Lists as in 0001; redirect_uris and logout_uris by
-- line feed. secret is a SHA-256, or empty for a public client.
CREATE TABLE client (
    id            {text} PRIMARY KEY,
    name          {text} NOT NULL,
    redirect_uris {text} NOT NULL,
    logout_uris   {text} NOT NULL,
    grants        {text} NOT NULL,
    scopes        {text} NOT NULL,
    secret        BYTEA NOT NULL,
    without_pkce  BOOLEAN NOT NULL,
    introspects   BOOLEAN NOT NULL,
    consent       {text} NOT NULL,
    created       BIGINT NOT NULL,
    disabled      BIGINT NOT NULL,
    reason        {text} NOT NULL
);
CREATE INDEX consent_client ON consent (client);

-- Programs that registered themselves and have deleted that again. Their id is their
-- registration, signed: this is all there is to keep of one, as a SHA-256 of the id.
CREATE TABLE client_gone (
    digest BYTEA PRIMARY KEY,
    gone   BIGINT NOT NULL
);

-- Keys of ID tokens, sealed under the master key. They are not in a backup.
CREATE TABLE signing_key (
    id      {text} PRIMARY KEY,
    sealed  BYTEA NOT NULL,
    created BIGINT NOT NULL,
    active  BIGINT NOT NULL
);
