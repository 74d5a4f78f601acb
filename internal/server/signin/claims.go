package signin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// who reads the token that VerifyID has checked, and asks the userinfo endpoint for what it
// leaves out: an issuer may keep the claims of scopes for there (OpenID Connect Core
// section 5.4), and npm's oidc-provider does unless told otherwise.
func (p *OIDC) who(ctx context.Context, conn *oauth.Conn, id oauth.IDClaims, token oauth.Token) (Account, error) {
	claims, err := payload(token.ID.Reveal())
	if err != nil {
		return Account{}, err
	}
	if !p.lacks(claims) || conn.Endpoints.UserInfo == "" || token.Access.IsZero() {
		return p.account(id, claims)
	}
	more, askErr := conn.UserInfo(ctx, token.Access, id.Subject)
	if askErr != nil && p.o.Claim != "" && claims[p.o.Claim] == nil {
		return Account{}, askErr // whether they belong is not known
	}
	account, err := p.account(id, complete(claims, more, p.o.Claim))
	if askErr != nil && account.NoEmail != "" {
		// Who is bound already needs no address.
		account.NoEmail = "the address could not be asked for: " + askErr.Error()
	}
	return account, err
}

// lacks reports whether the ID token leaves out what the policy goes by.
func (p *OIDC) lacks(claims map[string]json.RawMessage) bool {
	return p.o.Claim != "" && claims[p.o.Claim] == nil || p.o.Emails && (claims["email"] == nil || claims["email_verified"] == nil)
}

// complete adds to the ID token's claims what userinfo says and they do not. The word that
// an address is verified stays with the address it was said of.
func complete(claims, more map[string]json.RawMessage, claim string) map[string]json.RawMessage {
	for _, name := range []string{"name", "preferred_username", claim} {
		if name != "email_verified" && claims[name] == nil && more[name] != nil {
			claims[name] = more[name]
		}
	}
	if claims["email"] == nil || claims["email_verified"] == nil && words(claims["email"]) == words(more["email"]) {
		claims["email"], claims["email_verified"] = more["email"], more["email_verified"]
	}
	return claims
}

// account judges the claims.
func (p *OIDC) account(id oauth.IDClaims, claims map[string]json.RawMessage) (Account, error) {
	if p.o.Claim != "" && !hasOne(claims[p.o.Claim], p.o.Values) {
		return Account{}, &Refused{Reason: "claim", Detail: p.o.Claim + " of " + plain(id.Subject), What: p.o.Label + " does not say that you belong to those who have a mailbox here.", Hint: "If you do, tell whoever looks after your account there."}
	}
	email := words(claims["email"])
	account := Account{Issuer: id.Issuer, Subject: id.Subject, How: "oidc:" + id.Issuer, Name: plain(words(claims["name"]))}
	account.Shown = plain(words(claims["preferred_username"]))
	if account.Shown == "" {
		account.Shown = plain(email)
	}
	if account.Shown == "" {
		account.Shown = plain(id.Subject)
	}
	// Only the truth value counts: Entra sends no email_verified at all, and lets people
	// write any address into email.
	switch verified := string(claims["email_verified"]); {
	case email == "":
		account.NoEmail = "the provider tells no address, for which the scope email must be allowed and granted"
	case verified == "true":
		account.Emails = []string{email}
	default:
		account.NoEmail = "the provider does not say email_verified of " + plain(email)
	}
	if sid := words(claims["sid"]); sid != "" {
		account.Upstream = id.Issuer + " " + sid
	}
	return account, nil
}

// payload reads the claims of a token whose signature has been checked.
func payload(token string) (map[string]json.RawMessage, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("read ID token: not three parts")
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errors.New("read ID token: not base64")
	}
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(data, &claims); err != nil {
		return nil, fmt.Errorf("read ID token: %w", err)
	}
	return claims, nil
}

// words is a claim that is text.
func words(raw json.RawMessage) string {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return ""
	}
	return text
}

// hasOne reports whether a claim is one of the values, or a list with one of them. A text
// is compared whole: "mail-admins" is not "mail", nor is "x mail".
func hasOne(raw json.RawMessage, values []string) bool {
	var list []string
	var truth bool
	switch {
	case json.Unmarshal(raw, &list) == nil && list != nil:
		return slices.ContainsFunc(list, func(s string) bool { return slices.Contains(values, s) })
	case json.Unmarshal(raw, &truth) == nil && string(raw) != "null":
		return slices.Contains(values, fmt.Sprint(truth))
	}
	return slices.Contains(values, words(raw)) && words(raw) != ""
}
