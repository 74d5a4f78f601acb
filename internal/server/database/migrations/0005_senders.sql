-- An address that is known and that nobody may send as now (its owner was disabled, or it
-- has none) is told to Postfix with an owner who is nobody's login. Without that row Postfix
-- goes on to the address without its extension and to the domain's catch-all, and their
-- owners could send as somebody who left.
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
  AND EXISTS (SELECT 1 FROM mail_sender m WHERE m.person = c.person AND (m.address = s.sender OR m.address = '@' || s.domain))
UNION
SELECT k.address, '(nobody)' FROM (SELECT p.address AS address FROM person p UNION SELECT a.address FROM address a) k
WHERE NOT EXISTS (SELECT 1 FROM mail_sender m WHERE m.address = k.address);
