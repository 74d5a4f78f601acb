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

-- What each change of what the views show has touched: names of logins and addresses, a line
-- each, or nothing for everything. The mark is the change's own: after a restore the same
-- number means another one.
CREATE TABLE view_change (
    shown BIGINT PRIMARY KEY,
    mark  {text} NOT NULL,
    names {text} NOT NULL
);
