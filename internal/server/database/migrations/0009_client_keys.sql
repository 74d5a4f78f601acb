-- Programs that prove themselves by a signature (private_key_jwt): their public keys, a JWK
-- set; empty for those with a secret and for public ones.
ALTER TABLE client ADD COLUMN jwks {text} NOT NULL DEFAULT '';
