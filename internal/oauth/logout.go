package oauth

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// LogoutClaims are what a logout token says: end the session SessionID, or all of Subject.
// At least one of the two is there.
type LogoutClaims struct {
	Issuer, Subject, SessionID string
	ID                         string    // jti: who takes the token sees to it that it comes once
	Expires                    time.Time // when it is refused anyhow
}

const (
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// logoutLife is how old a logout token may be: it is sent when it is made.
	logoutLife = 10 * time.Minute
)

// Keys fetches the issuer's public keys, for callers that keep them: anybody may send a
// logout token.
func (c *Conn) Keys(ctx context.Context) ([]crypto.PublicKey, error) { return c.publicKeys(ctx) }

// VerifyLogout checks a logout token by keys of the issuer (OpenID Connect Back-Channel
// Logout 1.0 section 2.6): signature, issuer, audience, times, the event, an id, and that it
// is no ID token. Whether its id was seen before is the caller's to know.
func (c *Conn) VerifyLogout(ctx context.Context, raw string, keys []crypto.PublicKey) (LogoutClaims, error) {
	var none LogoutClaims
	switch {
	case raw == "" || len(raw) > maxIDToken:
		return none, errors.New("check logout token: none, or one too long")
	case c.Client.ID == "" || c.Endpoints.Issuer == "":
		return none, errors.New("check logout token: client id or issuer is not known")
	}
	verifier := oidc.NewVerifier(string(c.Endpoints.Issuer), &oidc.StaticKeySet{PublicKeys: keys}, &oidc.Config{
		ClientID:             c.Client.ID,
		SupportedSigningAlgs: signingAlgorithms(),
		SkipExpiryCheck:      true, // older issuers send no exp; done below, with iat
	})
	token, err := verifier.Verify(ctx, raw)
	if err != nil {
		return none, fmt.Errorf("check logout token: %w", scrubSecrets(secret.New(raw)).err(err))
	}
	var payload json.RawMessage
	if err := token.Claims(&payload); err != nil {
		return none, errors.New("check logout token: no claims")
	}
	o, err := parseObject(payload)
	if err != nil {
		return none, fmt.Errorf("check logout token: claims: %w", err)
	}
	return c.logout(o)
}

// logout reads and compares what go-oidc leaves to its caller.
func (c *Conn) logout(o object) (LogoutClaims, error) {
	claims := LogoutClaims{Issuer: o.lenient("iss"), Subject: o.lenient("sub"), SessionID: o.lenient("sid"), ID: o.lenient("jti")}
	now := c.now()
	var issued, expires float64
	_ = json.Unmarshal(o["iat"], &issued) // zero is too old
	at := time.Unix(int64(issued), 0)
	claims.Expires = at.Add(logoutLife)
	if raw, said := o["exp"]; said {
		if json.Unmarshal(raw, &expires) != nil || !now.Before(time.Unix(int64(expires), 0).Add(clockSkew)) {
			return claims, errors.New("check logout token: expired")
		}
	}
	var events map[string]json.RawMessage
	var event map[string]json.RawMessage
	_, hasNonce := o["nonce"]
	switch {
	case issued <= 0 || issued > 1<<40 || now.Add(clockSkew).Before(at) || now.After(claims.Expires):
		return claims, errors.New("check logout token: issued at another time than now")
	case json.Unmarshal(o["events"], &events) != nil || json.Unmarshal(events[logoutEvent], &event) != nil || event == nil:
		return claims, errors.New("check logout token: it does not say that it is one")
	case hasNonce:
		// An ID token has one: it must not end anything.
		return claims, errors.New("check logout token: it has a nonce")
	case claims.ID == "" || len(claims.ID) > 1024:
		return claims, errors.New("check logout token: no id")
	case claims.Subject == "" && claims.SessionID == "":
		return claims, errors.New("check logout token: neither subject nor session")
	}
	return claims, nil
}
