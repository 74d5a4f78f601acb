-- What Dovecot and Postfix may read while the daemon is down. {now} is the present in
-- microseconds. Only mail_login and dovecot_passdb show a hash, and no view shows more.

-- Each name that may log in to each service, whatever the time. The plain address stands
-- for every app password of the person; dovecot_passdb picks one. An app password whose
-- recipients or rate are limited has no SMTP here: SQL cannot keep those limits.
CREATE VIEW mail_login AS
SELECT c.login AS login, s.service AS service, 0 AS plain,
       CASE WHEN s.protocol = 'smtp' AND c.limited THEN c.login ELSE p.address END AS username,
       '{ARGON2ID}' || c.hash AS password, NULLIF(c.networks, '') AS allow_nets,
       c.expires AS expires, c.created AS created, c.id AS id
FROM credential c
JOIN person p ON p.id = c.person
JOIN (SELECT 'imap' AS service, 'imap' AS protocol UNION ALL SELECT 'pop3', 'pop3' UNION ALL SELECT 'smtp', 'smtp'
      UNION ALL SELECT 'submission', 'smtp' UNION ALL SELECT 'sieve', 'sieve') s
  ON c.protocols = '' OR ' ' || c.protocols || ' ' LIKE '% ' || s.protocol || ' %'
WHERE p.disabled = 0 AND c.revoked = 0 AND NOT (s.protocol = 'smtp' AND (c.recipients <> '' OR c.per_hour > 0))
UNION ALL
SELECT p.address, s.service, 1,
       CASE WHEN s.protocol = 'smtp' AND c.limited THEN c.login ELSE p.address END,
       '{ARGON2ID}' || c.hash, NULLIF(c.networks, ''),
       c.expires, c.created, c.id
FROM person p
JOIN credential c ON c.person = p.id
JOIN (SELECT 'imap' AS service, 'imap' AS protocol UNION ALL SELECT 'pop3', 'pop3' UNION ALL SELECT 'smtp', 'smtp'
      UNION ALL SELECT 'submission', 'smtp' UNION ALL SELECT 'sieve', 'sieve') s
  ON c.protocols = '' OR ' ' || c.protocols || ' ' LIKE '% ' || s.protocol || ' %'
WHERE p.disabled = 0 AND c.revoked = 0 AND NOT (s.protocol = 'smtp' AND (c.recipients <> '' OR c.per_hour > 0));

-- One row for one login and service, which is the law of Dovecot's passdb. The plain
-- address is the oldest app password in force, so that a new one breaks no device.
CREATE VIEW dovecot_passdb AS
SELECT l.login AS login, l.service AS service, l.username AS username, l.password AS password, l.allow_nets AS allow_nets
FROM mail_login l
WHERE (l.expires = 0 OR l.expires > {now})
  AND (l.plain = 0 OR NOT EXISTS (
    SELECT 1 FROM mail_login o
    WHERE o.login = l.login AND o.service = l.service AND o.plain = 1 AND (o.expires = 0 OR o.expires > {now})
      AND (o.created < l.created OR o.created = l.created AND o.id < l.id)));

-- Mailboxes. A mailbox whose owners are all disabled takes no mail.
CREATE VIEW postfix_recipient AS
SELECT p.address AS address, p.address AS mailbox FROM person p WHERE p.disabled = 0
UNION
SELECT a.address, a.address FROM address a
WHERE a.targets = '' AND a.address NOT LIKE '@%'
  AND NOT EXISTS (SELECT 1 FROM person p WHERE p.address = a.address)
  AND (NOT EXISTS (SELECT 1 FROM address_owner o WHERE o.address = a.address)
       OR EXISTS (SELECT 1 FROM address_owner o JOIN person p ON p.id = o.person WHERE o.address = a.address AND p.disabled = 0));

-- Aliases, catch-alls, and each mailbox as its own alias: without those rows a catch-all
-- of the domain would take the mail of every mailbox in it.
CREATE VIEW postfix_alias AS
SELECT t.address AS address, t.target AS target FROM address_target t
WHERE NOT EXISTS (SELECT 1 FROM address_owner o WHERE o.address = t.address)
   OR EXISTS (SELECT 1 FROM address_owner o JOIN person p ON p.id = o.person WHERE o.address = t.address AND p.disabled = 0)
UNION
SELECT a.address, p.address FROM address a
JOIN address_owner o ON o.address = a.address
JOIN person p ON p.id = o.person
WHERE a.targets = '' AND a.address LIKE '@%' AND o.may_login AND p.disabled = 0
UNION
SELECT r.address, r.mailbox FROM postfix_recipient r
WHERE NOT EXISTS (SELECT 1 FROM address_target t WHERE t.address = r.address);

CREATE VIEW dovecot_userdb AS
SELECT r.address AS login, r.mailbox AS username FROM postfix_recipient r
UNION
SELECT c.login, p.address FROM credential c JOIN person p ON p.id = c.person WHERE c.revoked = 0 AND p.disabled = 0;

-- Who may send as what. "@domain" is every address of the domain.
CREATE VIEW mail_sender AS
SELECT p.id AS person, p.address AS address, p.address AS login FROM person p WHERE p.disabled = 0
UNION
SELECT p.id, o.address, p.address FROM address_owner o JOIN person p ON p.id = o.person WHERE o.may_send AND p.disabled = 0;

CREATE VIEW postfix_sender_login AS
SELECT m.address AS address, m.login AS login FROM mail_sender m
UNION
SELECT m.address, c.login FROM mail_sender m JOIN credential c ON c.person = m.person
WHERE c.revoked = 0 AND c.limited AND c.senders = ''
UNION
SELECT s.sender, c.login FROM credential_sender s
JOIN credential c ON c.id = s.credential
WHERE c.revoked = 0
  AND EXISTS (SELECT 1 FROM mail_sender m WHERE m.person = c.person AND (m.address = s.sender OR m.address = '@' || s.domain));
