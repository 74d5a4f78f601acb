-- Browsers at a web mail gateway, and the tokens that web mail got for them. A row here is
-- worth something only while its session (person, began) and its consent are in force.

CREATE TABLE mail_session (
    id      BYTEA PRIMARY KEY,
    gateway {text} NOT NULL,
    person  {text} NOT NULL,
    began   BIGINT NOT NULL,
    consent {text} NOT NULL,
    created BIGINT NOT NULL,
    seen    BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX mail_session_person ON mail_session (person);
CREATE INDEX mail_session_expires ON mail_session (expires);

-- Which access tokens end with the browser's log-out.
CREATE TABLE mail_token (
    digest       BYTEA PRIMARY KEY,
    mail_session BYTEA NOT NULL,
    expires      BIGINT NOT NULL
);
CREATE INDEX mail_token_session ON mail_token (mail_session);
CREATE INDEX mail_token_expires ON mail_token (expires);
