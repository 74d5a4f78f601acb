// Package fakeidp plays Google and Microsoft for tests, strictly: it is written from
// their documentation and from reported answers, and refuses what they are documented
// to refuse, with their status, error code and wording. A refusal that no test has
// made fire is worth nothing, so each has a name and is counted.
//
// A person at the browser is a record: the authorization endpoint answers at once as
// if that person had clicked. What a real provider shows as a page (an unknown
// client, a wrong redirect URI) is a page here too, and no redirect.
//
// Not played: the look of the pages, consent screens in steps, quotas. What the
// documentation leaves open is played as the stricter of what programs report.
package fakeidp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Provider is what both fakes have.
type Provider interface {
	// Hosts are the names that the fake answers for; map each to one TLS listener.
	Hosts() []string
	http.Handler
	// Check says whose a token is, if it may be used for scope; for mail servers.
	Check(token, scope string) (address string, err error)
	// Fired counts the refusals by name since the start.
	Fired() map[string]int
	// Refusals lists the names of all refusals there are.
	Refusals() []string
}

// book counts refusals and holds what both fakes need.
type book struct {
	mu    sync.Mutex
	clock func() time.Time
	fired map[string]int
	key   *rsa.PrivateKey
	codes map[string]*code
	// refresh and access tokens by their text
	refresh map[string]*grant
	access  map[string]*access
	devices map[string]*device
	// Forge changes the claims of ID tokens before they are signed: what a confused
	// or hostile issuer would say. nil: the truth. Set it before the fake serves.
	Forge func(claims map[string]any)
}

// A code is an authorization code not yet redeemed, or redeemed.
type code struct {
	client, redirect, challenge, method, nonce string
	scopes                                     []string
	person, tenant                             string
	offline, used                              bool
	issued                                     time.Time
}

// A grant is what a refresh token stands for.
type grant struct {
	client, person, tenant string
	scopes                 []string
	signedIn, used         time.Time
	revoked                bool
}

type access struct {
	person, client string
	scopes         []string
	expires        time.Time
	grant          *grant
}

type device struct {
	client, person, tenant, user string
	scopes                       []string
	issued, asked                time.Time
	decided, refused, used       bool
}

func newBook(clock func() time.Time) *book {
	return &book{
		clock: clock, fired: map[string]int{},
		codes: map[string]*code{}, refresh: map[string]*grant{}, access: map[string]*access{}, devices: map[string]*device{},
	}
}

// Fired counts the refusals by name.
func (b *book) Fired() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts := map[string]int{}
	for name, n := range b.fired {
		counts[name] = n
	}
	return counts
}

// refuse notes a refusal; the caller writes the answer. The caller holds the lock.
func (b *book) refuse(name string) { b.fired[name]++ }

func random(n int) string {
	raw := make([]byte, n)
	if _, err := rand.Read(raw); err != nil {
		panic(err) // no randomness: no test can go on
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// page answers with what a person sees in the browser.
func page(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<!doctype html><title>Sign in</title><p>%s</p>\n", html.EscapeString(text))
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// back sends the browser to the redirect URI.
func back(w http.ResponseWriter, r *http.Request, redirect string, q url.Values) {
	separator := "?"
	if strings.Contains(redirect, "?") {
		separator = "&"
	}
	http.Redirect(w, r, redirect+separator+q.Encode(), http.StatusFound)
}

// pkceMatches checks a verifier against the challenge of the request (RFC 7636
// section 4.6).
func pkceMatches(c *code, verifier string) bool {
	if c.method == "plain" {
		return verifier == c.challenge
	}
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:]) == c.challenge
}

// signingKey is made when it is first wanted: it costs more than the rest of a fake.
func (b *book) signingKey() *rsa.PrivateKey {
	if b.key == nil {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err) // no randomness: no test can go on
		}
		b.key = key
	}
	return b.key
}

func (b *book) sign(claims any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: b.signingKey()},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", "lab-1"))
	if err != nil {
		panic(err) // a fixed algorithm and key: cannot fail
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		panic(err) // as above
	}
	return token
}

// idToken signs claims, forged where a test wants that.
func (b *book) idToken(claims map[string]any) string {
	if b.Forge != nil {
		b.Forge(claims)
	}
	return b.sign(claims)
}

func (b *book) keys(w http.ResponseWriter) {
	answer(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: b.signingKey().Public(), KeyID: "lab-1", Algorithm: string(jose.RS256), Use: "sig"},
	}})
}

// subset reports whether every element of part is in whole.
func subset(part, whole []string) bool {
	for _, p := range part {
		if !slices.Contains(whole, p) {
			return false
		}
	}
	return true
}

// Refreshes lists the refresh tokens that would be taken now, and of whom.
func (b *book) Refreshes() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	live := map[string]string{}
	for text, g := range b.refresh {
		if !g.revoked {
			live[text] = g.person
		}
	}
	return live
}

// Check says whose a token is, when it is alive and may be used for scope.
func (b *book) Check(token, scope string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.access[token]
	switch {
	case a == nil:
		return "", fmt.Errorf("unknown token")
	case b.clock().After(a.expires):
		return "", fmt.Errorf("token expired")
	case a.grant != nil && a.grant.revoked:
		return "", fmt.Errorf("grant revoked")
	case !slices.Contains(a.scopes, scope):
		return "", fmt.Errorf("token lacks scope %s", scope)
	}
	return a.person, nil
}

// With changes people, clients and settings of a fake that is serving.
func (b *book) With(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// Revoke ends every grant of a person, as the account page of the provider does.
func (b *book) Revoke(person string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.refresh {
		if g.person == person {
			g.revoked = true
		}
	}
}

// once reports a parameter that is there twice; both providers refuse that.
func once(values url.Values) (repeated string) {
	for name, v := range values {
		if len(v) > 1 {
			return name
		}
	}
	return ""
}
