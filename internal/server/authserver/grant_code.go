package authserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// redeemCode is grant_type=authorization_code (RFC 6749 section 4.1.3, RFC 7636
// section 4.6).
//
// A code is good for one attempt, whatever comes of it. A second attempt means that
// two hold it, and one of them is not the client: everything that came of it ends
// (RFC 6749 section 4.1.2). So does a first attempt by the wrong client, with the
// wrong redirect URI or verifier: it proves that the code has leaked.
func (s *Server) redeemCode(ctx context.Context, client identity.Client, in params) (tokenAnswer, *oauthError) {
	codeDigest, ok := digest(in["code"], codePrefix)
	switch {
	case in["code"] == "":
		return tokenAnswer{}, invalidRequest("code is missing")
	case in["redirect_uri"] == "":
		return tokenAnswer{}, invalidRequest("redirect_uri is missing")
	case in["code_verifier"] == "" && !client.WithoutPKCE:
		// Asked for before the code is looked at, so that a client that forgot PKCE
		// does not burn it.
		return tokenAnswer{}, invalidRequest("code_verifier is missing")
	case !ok:
		return tokenAnswer{}, invalidGrant("the code is not valid")
	}
	now := s.Now()
	code, err := s.Codes.TakeCode(ctx, codeDigest, now)
	if err != nil {
		return tokenAnswer{}, s.storeFault("take code", err)
	}
	if reason := codeFault(code, client, in); reason != "" {
		return tokenAnswer{}, s.revokeFamily(ctx, code.Grant, client.ID, reason, invalidGrant("the code is not valid"))
	}
	if !now.Before(code.Expires) {
		s.Log.Info("code refused", "grant", code.Grant, "client", client.ID, "reason", "expired")
		return tokenAnswer{}, invalidGrant("the code is not valid")
	}
	return s.issue(ctx, client, code.Grant, signedIn{code.Nonce, code.AuthTime})
}

func codeFault(code identity.Code, client identity.Client, in params) string {
	switch {
	case !code.Used.IsZero():
		return "authorization code used twice"
	case code.Client != client.ID:
		return "authorization code used by another client"
	case code.RedirectURI != in["redirect_uri"]:
		return "authorization code used with another redirect URI"
	case code.Challenge == "" && client.WithoutPKCE && client.Confidential() && in["code_verifier"] == "":
	case !verify(code.Challenge, in["code_verifier"]):
		return "authorization code used with a wrong PKCE verifier"
	}
	return ""
}

// verify is RFC 7636 section 4.6 for S256. A code without a challenge cannot exist;
// the check on it stops a downgrade all the same (RFC 9700 section 4.8.2).
func verify(challenge, verifier string) bool {
	if !validVerifier(verifier) || !validChallenge(challenge) {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}

// validVerifier is the grammar of RFC 7636 section 4.1.
func validVerifier(verifier string) bool {
	if len(verifier) < 43 || len(verifier) > 128 {
		return false
	}
	for _, r := range verifier {
		if !base64URL(r) && r != '.' && r != '~' {
			return false
		}
	}
	return true
}

// validChallenge reports whether text can be a base64url SHA-256.
func validChallenge(challenge string) bool {
	if len(challenge) != 43 {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(challenge)
	return err == nil
}
