package authserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	exactjson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	assertionKind = "client assertion"
	// maxAssertion is what a client id of the greatest length, twice, and the signature of
	// the greatest key take.
	maxAssertion = 8 << 10
	// assertionLife is how far ahead an assertion may end: it is made for one request.
	assertionLife = 10 * time.Minute
	assertionSkew = 30 * time.Second
	// clockDrift is how much longer than it could be of use an assertion is remembered, for
	// instances whose clocks differ.
	clockDrift = 5 * time.Minute
)

// An assertion is what a client signs to prove itself (RFC 7523 section 3), not checked yet.
type assertion struct {
	signed *jose.JSONWebSignature
	claims assertionClaims
}

type assertionClaims struct {
	Issuer   string       `json:"iss"`
	Subject  string       `json:"sub"`
	Audience jwt.Audience `json:"aud"`
	ID       string       `json:"jti"`
	Expires  float64      `json:"exp"`
	Before   float64      `json:"nbf"`
	Issued   float64      `json:"iat"`
}

var errAssertion = errors.New("an assertion that is not understood")

// readAssertion reads a client assertion. Names of claims are exact and none comes twice,
// unlike encoding/json has it.
func readAssertion(text string) (assertion, error) {
	if len(text) > maxAssertion {
		return assertion{}, errAssertion
	}
	signed, err := jose.ParseSignedCompact(text, assertionAlgorithms())
	if err != nil || len(signed.Signatures) != 1 {
		return assertion{}, errAssertion
	}
	// What was signed to be something else is no assertion (RFC 8725 section 3.11).
	kind, said := signed.Signatures[0].Protected.ExtraHeaders[jose.HeaderType].(string)
	kind = strings.TrimPrefix(strings.ToLower(kind), "application/")
	if said && kind != "jwt" && kind != "client-authentication+jwt" {
		return assertion{}, errAssertion
	}
	a := assertion{signed: signed}
	if err := exactjson.Unmarshal(signed.UnsafePayloadWithoutVerification(), &a.claims); err != nil || !plainText(a.claims.Subject, maxClientID) {
		return assertion{}, errAssertion
	}
	return a, nil
}

// fault is why the claims do not speak for a client now; "" when they do. Exactly one
// audience: an assertion that names us beside others would be good for those to act as the
// client here.
func (c assertionClaims) fault(client identity.ClientID, audiences []string, now time.Time) string {
	seconds, skew := float64(now.Unix()), assertionSkew.Seconds()
	switch {
	case c.Subject == "" || c.Subject != string(client) || c.Issuer != c.Subject:
		return "an assertion in another client's name"
	case len(c.Audience) != 1 || !slices.Contains(audiences, c.Audience[0]):
		return "an assertion for another audience"
	case c.ID == "" || !plainText(c.ID, 255):
		return "an assertion without a usable jti"
	case c.Expires <= seconds-skew:
		return "an assertion that has expired"
	case c.Expires > seconds+assertionLife.Seconds()+skew:
		return "an assertion that ends too far ahead"
	case c.Before > seconds+skew || c.Issued > seconds+skew:
		return "an assertion of the future"
	}
	return ""
}

// signedBy reports whether one of the client's keys made the signature: the one that is
// named, or any where none is. A key that was entered without a name, as PEM has none, is
// tried by whatever name the program has for it.
func (a assertion) signedBy(keys string) bool {
	var set jose.JSONWebKeySet
	if json.Unmarshal([]byte(keys), &set) != nil {
		return false
	}
	head := a.signed.Signatures[0].Protected
	for _, key := range set.Keys {
		if head.KeyID != "" && key.KeyID != "" && key.KeyID != head.KeyID || !slices.Contains(fitting(key), jose.SignatureAlgorithm(head.Algorithm)) {
			continue
		}
		if _, err := a.signed.Verify(key.Key); err == nil {
			return true
		}
	}
	return false
}

// checkAssertion is RFC 7523 section 3 for a client that has keys; reason is why not. The
// signature comes before the jti: only the client itself can use one up, and over all
// instances once.
func (s *Server) checkAssertion(r *http.Request, client identity.Client, text string) (reason string, err error) {
	a, err := readAssertion(text)
	if err != nil {
		return err.Error(), nil
	}
	if reason := a.claims.fault(client.ID, s.audiences(r), s.Now()); reason != "" {
		return reason, nil
	}
	if !a.signedBy(client.Keys) {
		return "an assertion that is not signed by a key of the client", nil
	}
	used := identity.DigestOf(string(client.ID) + "\n" + a.claims.ID)
	until := time.Unix(int64(a.claims.Expires), 0).Add(assertionSkew + clockDrift)
	err = s.Once.PutOnce(r.Context(), used, assertionKind, nil, until)
	if errors.Is(err, identity.ErrExists) {
		return "an assertion that was used before", nil
	}
	return "", err
}

// audiences are the names of ours that an assertion may have: the issuer, as RFC 7523's
// successor wants it, the token endpoint, as RFC 7523 and OpenID Connect Core have it, and
// where a request is pushed that endpoint (RFC 9126 section 2).
func (s *Server) audiences(r *http.Request) []string {
	names := []string{s.Issuer, s.Issuer + "/token"}
	if r.URL.Path == s.path+"/par" {
		names = append(names, s.Issuer+"/par")
	}
	return names
}
