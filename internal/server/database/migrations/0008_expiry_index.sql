-- What ends by itself is looked for every second.
CREATE INDEX credential_expires ON credential (expires) WHERE revoked = 0;

-- A list of senders reaches no further than its owner: whoever has all of a domain does not
-- have an address in it that is somebody else's, and a listed one with an extension may be
-- such a one. A listed address of a catch-all stays its owner's too, for Postfix asks about
-- the domain only where the address itself has no row.
{lite}DROP VIEW postfix_sender_login;
{create view} postfix_sender_login {barrier} AS
SELECT m.address AS address, m.login AS login FROM mail_sender m
UNION
SELECT m.address, c.login FROM mail_sender m JOIN credential c ON c.person = m.person
WHERE c.revoked = 0 AND c.limited AND c.senders = ''
UNION
SELECT s.sender, c.login FROM credential_sender s
JOIN credential c ON c.id = s.credential
WHERE c.revoked = 0
  AND EXISTS (SELECT 1 FROM mail_sender m WHERE m.person = c.person AND m.address = s.sender)
UNION
SELECT s.sender, c.login FROM credential_sender s
JOIN credential c ON c.id = s.credential
JOIN mail_sender m ON m.person = c.person AND m.address = '@' || s.domain
WHERE c.revoked = 0 AND s.sender NOT LIKE '%+%@%' AND s.sender NOT LIKE '@%'
  AND NOT EXISTS (SELECT 1 FROM person p WHERE p.address = s.sender)
  AND NOT EXISTS (SELECT 1 FROM address a WHERE a.address = s.sender)
UNION
SELECT s.sender, m.login FROM credential_sender s
JOIN credential c ON c.id = s.credential
JOIN mail_sender m ON m.address = '@' || s.domain
WHERE c.revoked = 0 AND s.sender NOT LIKE '%+%@%' AND s.sender NOT LIKE '@%'
  AND NOT EXISTS (SELECT 1 FROM person p WHERE p.address = s.sender)
  AND NOT EXISTS (SELECT 1 FROM address a WHERE a.address = s.sender)
UNION
SELECT k.address, '(nobody)' FROM (SELECT p.address AS address FROM person p UNION SELECT a.address FROM address a) k
WHERE NOT EXISTS (SELECT 1 FROM mail_sender m WHERE m.address = k.address);
