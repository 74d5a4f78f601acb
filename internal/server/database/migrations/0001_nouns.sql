-- The nouns of internal/server/identity. One text for both engines:
--   {text}  text compared byte by byte, so that pages end at the same row on both
--   times   BIGINT, microseconds since 1970 in UTC; 0: never, not yet
--   lists   one string: protocols and scopes separated by a space, networks by a comma
--           (as Dovecot's allow_nets wants them), addresses by a line feed
--   secrets none; digests are SHA-256 of 256 random bits, hashes are Argon2id

-- What caches watch. taken grows with every change that can take a right away, shown with
-- every change that the views below or the view file show. Always one row.
CREATE TABLE generation (
    id    BIGINT PRIMARY KEY,
    taken BIGINT NOT NULL,
    shown BIGINT NOT NULL
);
INSERT INTO generation (id, taken, shown) VALUES (1, 1, 1);

CREATE TABLE person (
    id       {text} PRIMARY KEY,
    address  {text} NOT NULL UNIQUE,
    name     {text} NOT NULL,
    admin    BOOLEAN NOT NULL,
    created  BIGINT NOT NULL,
    disabled BIGINT NOT NULL,
    reason   {text} NOT NULL
);

CREATE TABLE binding (
    issuer  {text} NOT NULL,
    subject {text} NOT NULL,
    person  {text} NOT NULL,
    shown   {text} NOT NULL,
    bound   BIGINT NOT NULL,
    checked BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX binding_person ON binding (person);

-- A person's own address needs no row here: it is a mailbox of theirs by itself.
CREATE TABLE address (
    address {text} PRIMARY KEY,
    targets {text} NOT NULL
);
-- The same targets once more, a row each, for the views.
CREATE TABLE address_target (
    address {text} NOT NULL,
    target  {text} NOT NULL,
    PRIMARY KEY (address, target)
);
CREATE TABLE address_owner (
    address   {text} NOT NULL,
    person    {text} NOT NULL,
    may_login BOOLEAN NOT NULL,
    may_send  BOOLEAN NOT NULL,
    PRIMARY KEY (address, person)
);
CREATE INDEX address_owner_person ON address_owner (person);

CREATE TABLE credential (
    id            {text} PRIMARY KEY,
    person        {text} NOT NULL,
    selector      {text} NOT NULL UNIQUE,
    hash          {text} NOT NULL,
    name          {text} NOT NULL,
    login         {text} NOT NULL,
    label         {text} NOT NULL,
    protocols     {text} NOT NULL,
    networks      {text} NOT NULL,
    senders       {text} NOT NULL,
    recipients    {text} NOT NULL,
    per_hour      BIGINT NOT NULL,
    limited       BOOLEAN NOT NULL,
    created       BIGINT NOT NULL,
    expires       BIGINT NOT NULL,
    revoked       BIGINT NOT NULL,
    reason        {text} NOT NULL,
    last_use      BIGINT NOT NULL,
    last_from     {text} NOT NULL,
    last_protocol {text} NOT NULL
);
-- A name is free again once its credential is revoked.
CREATE UNIQUE INDEX credential_name ON credential (person, name) WHERE revoked = 0;
CREATE UNIQUE INDEX credential_login ON credential (login) WHERE revoked = 0;
CREATE INDEX credential_person ON credential (person);
CREATE TABLE credential_sender (
    credential {text} NOT NULL,
    sender     {text} NOT NULL,
    domain     {text} NOT NULL,
    PRIMARY KEY (credential, sender)
);
CREATE INDEX credential_sender_sender ON credential_sender (sender);

CREATE TABLE session (
    id       BYTEA PRIMARY KEY,
    person   {text} NOT NULL,
    admin    BOOLEAN NOT NULL,
    proved   BIGINT NOT NULL,
    how      {text} NOT NULL,
    agent    {text} NOT NULL,
    origin   {text} NOT NULL,
    created  BIGINT NOT NULL,
    seen     BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    upstream {text} NOT NULL
);
CREATE INDEX session_person ON session (person);
CREATE INDEX session_upstream ON session (upstream) WHERE upstream <> '';
CREATE INDEX session_expires ON session (expires);

CREATE TABLE event (
    id     {text} PRIMARY KEY,
    at     BIGINT NOT NULL,
    kind   {text} NOT NULL,
    person {text} NOT NULL,
    actor  {text} NOT NULL,
    origin {text} NOT NULL,
    detail {text} NOT NULL
);
CREATE INDEX event_at ON event (at, id);
CREATE INDEX event_person ON event (person, at, id);

CREATE TABLE ban (
    network {text} PRIMARY KEY,
    allow   BOOLEAN NOT NULL,
    until   BIGINT NOT NULL,
    reason  {text} NOT NULL,
    made    BIGINT NOT NULL
);

CREATE TABLE counter (
    name   {text} NOT NULL,
    opened BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    PRIMARY KEY (name, opened)
);
CREATE INDEX counter_opened ON counter (opened);

CREATE TABLE once (
    digest  BYTEA NOT NULL,
    kind    {text} NOT NULL,
    data    BYTEA NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (digest, kind)
);
CREATE INDEX once_expires ON once (expires);

-- Grants outlive their person and are never deleted: nothing late brings one back.
CREATE TABLE consent (
    id      {text} PRIMARY KEY,
    person  {text} NOT NULL,
    client  {text} NOT NULL,
    scopes  {text} NOT NULL,
    created BIGINT NOT NULL,
    revoked BIGINT NOT NULL,
    reason  {text} NOT NULL
);
CREATE INDEX consent_person ON consent (person);

CREATE TABLE code (
    digest       BYTEA PRIMARY KEY,
    consent      {text} NOT NULL,
    client       {text} NOT NULL,
    redirect_uri {text} NOT NULL,
    challenge    {text} NOT NULL,
    nonce        {text} NOT NULL,
    auth_time    BIGINT NOT NULL,
    expires      BIGINT NOT NULL,
    used         BIGINT NOT NULL
);
CREATE INDEX code_expires ON code (expires);

CREATE TABLE access_token (
    digest  BYTEA PRIMARY KEY,
    consent {text} NOT NULL,
    scopes  {text} NOT NULL,
    issued  BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    revoked BIGINT NOT NULL
);
CREATE INDEX access_token_expires ON access_token (expires);

CREATE TABLE refresh_token (
    digest    BYTEA PRIMARY KEY,
    consent   {text} NOT NULL,
    issued    BIGINT NOT NULL,
    expires   BIGINT NOT NULL,
    spent     BIGINT NOT NULL,
    successor BYTEA NOT NULL
);
CREATE INDEX refresh_token_expires ON refresh_token (expires);

CREATE TABLE device (
    digest       BYTEA PRIMARY KEY,
    user_code    BYTEA NOT NULL,
    client       {text} NOT NULL,
    scopes       {text} NOT NULL,
    origin       {text} NOT NULL,
    created      BIGINT NOT NULL,
    expires      BIGINT NOT NULL,
    poll_every   BIGINT NOT NULL,
    last_poll    BIGINT NOT NULL,
    state        {text} NOT NULL,
    consent      {text} NOT NULL,
    auth_time    BIGINT NOT NULL
);
CREATE INDEX device_user_code ON device (user_code);
CREATE INDEX device_expires ON device (expires);
