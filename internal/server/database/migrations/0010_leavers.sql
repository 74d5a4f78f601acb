-- What an administrator said about a person whom a directory has removed since: it holds
-- for whoever is made with that address, or by a directory with that id of its own.
CREATE TABLE held (
    address  {text} PRIMARY KEY,
    external {text} NOT NULL,
    since    BIGINT NOT NULL,
    reason   {text} NOT NULL
);
CREATE INDEX held_external ON held (external) WHERE external <> '';

-- Who was suspended on a provider's word alone and when: so many in a day and no more.
CREATE TABLE departure (
    issuer {text} NOT NULL,
    person {text} NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (issuer, person)
);
