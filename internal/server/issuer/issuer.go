// Package issuer judges access tokens that another issuer made, for mail: those of the
// identity provider's own that a web mail passes on. It takes a token only when the issuer
// made it for one of the audiences and for one of the clients on the administrator's list;
// that the issuer knows the person is not enough, for then any site where that person signs
// in could read their mail.
//
//	credential.Door -> List.Verify -> signature by the issuer's keys (JSON Web Token)
//	                              \-> the issuer's introspection endpoint (RFC 7662)
//
// Whose mailbox it is says the binding of issuer and subject, never an address in the
// token. Whoever is disabled or unbound here is out at once; what the issuer itself takes
// back is felt when the token expires, or at once with introspection.
//
// Signatures are checked by go-oidc; its remote key set does not tell an issuer that is away
// from a signature that is wrong, so that the keys are fetched here.
package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// Options are one issuer. Audiences, Clients and Scopes must not be empty.
type Options struct {
	URL       string   // byte for byte as it names itself
	Audiences []string // one of them must be in "aud"
	Clients   []string // one of them must have been given the token
	// Scopes are what such a token may do here, whatever it says itself.
	Scopes []string
	// Need is a scope that the token must have; empty: none.
	Need string
	// Introspection is the endpoint that judges tokens; empty: they are JSON Web Tokens.
	Introspection string
	// Prefix is how the tokens of an issuer with introspection begin; empty: in any way. Where
	// several issuers are asked it keeps the tokens of each from the others.
	Prefix   string
	ClientID string // who we are there
	Secret   secret.String

	HTTP *http.Client // of oauth.NewHTTPClient
	Now  func() time.Time
}

// An Issuer judges the tokens of one.
type Issuer struct {
	o Options

	mu      sync.Mutex
	keys    jose.JSONWebKeySet
	asked   time.Time // when they came
	tried   time.Time // when they were last asked for in vain
	trouble error     // and what was the matter

	asking sync.Mutex // one asks at a time; held without mu

	memory memory
}

const (
	maxToken  = 16 << 10
	maxAnswer = 256 << 10
	// keysLife is how long keys are believed, keysPause how often they are asked for
	// because of a token with a key that is not known.
	keysLife  = time.Hour
	keysPause = time.Minute
	// askTime bounds one question, troublePause is how long an issuer that gave no answer is
	// left alone: anybody can send tokens that name a key which is not known.
	askTime      = 4 * time.Second
	troublePause = 10 * time.Second
	skew         = 30 * time.Second
)

// New checks the options. It asks nobody yet: an issuer that is away must not keep the
// daemon from starting.
func New(o Options) (*Issuer, error) {
	switch {
	case o.URL == "" || o.HTTP == nil || o.Now == nil:
		return nil, errors.New("issuer: URL, HTTP client or clock is missing")
	case len(o.Audiences) == 0 || len(o.Clients) == 0:
		return nil, fmt.Errorf("issuer %s: audiences and clients are both needed: any other token of it would open mail", o.URL)
	case len(o.Scopes) == 0:
		return nil, fmt.Errorf("issuer %s: no scopes", o.URL)
	case o.Introspection != "" && (o.ClientID == "" || o.Secret.IsZero()):
		return nil, fmt.Errorf("issuer %s: introspection needs a client id and a secret", o.URL)
	}
	return &Issuer{o: o}, nil
}

// A List is several issuers; it implements credential.Outside.
type List []*Issuer

// Verify says whose token it is; identity.ErrNotFound wrapped: nobody's that is let in
// here. Any other error means that it could not be judged.
func (l List) Verify(ctx context.Context, token secret.String) (credential.OutsideToken, error) {
	text := token.Reveal()
	if len(text) > maxToken {
		return credential.OutsideToken{}, refuse("too long")
	}
	if name := issuerOf(text); name != "" {
		return l.verifyNamed(ctx, name, text)
	}
	var away error
	all := l.introspecting(text)
	for n, one := range all {
		asking, cancel := share(ctx, len(all)-n)
		found, err := one.introspect(asking, text)
		cancel()
		switch {
		case err == nil:
			return found, nil
		case !errors.Is(err, identity.ErrNotFound) && away == nil:
			away = err // it may still be another's
		}
	}
	if away != nil {
		return credential.OutsideToken{}, away
	}
	return credential.OutsideToken{}, refuse("of no issuer on the list")
}

// share leaves time for the others that may still be asked: one that takes a question and
// never answers would keep their people out.
func share(ctx context.Context, askable int) (context.Context, context.CancelFunc) {
	until, bounded := ctx.Deadline()
	if !bounded {
		return context.WithTimeout(ctx, askTime)
	}
	return context.WithTimeout(ctx, time.Until(until)/time.Duration(askable))
}

// verifyNamed is for a token that says whose it is: nobody else sees it.
func (l List) verifyNamed(ctx context.Context, name, text string) (credential.OutsideToken, error) {
	for _, one := range l {
		switch {
		case name != one.o.URL:
		case one.o.Introspection == "":
			return one.verifyJWT(ctx, text)
		default:
			return one.introspect(ctx, text)
		}
	}
	return credential.OutsideToken{}, refuse("of no issuer on the list")
}

func refuse(reason string) error { return fmt.Errorf("token %s: %w", reason, identity.ErrNotFound) }

// issuerOf reads who a JSON Web Token says made it, so that the right keys are asked; what
// it says is checked afterwards. "" for what is none.
func issuerOf(text string) string {
	token, err := jose.ParseSignedCompact(text, algorithms())
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(token.UnsafePayloadWithoutVerification(), &claims) != nil {
		return ""
	}
	return claims.Issuer
}

// algorithms are the asymmetric ones. HS256 would let anybody who knows a public key sign,
// and "none" anybody at all.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}
}

// told is what an issuer says about a token, signed or asked.
type told struct {
	Active   *bool   `json:"active"`
	Issuer   string  `json:"iss"`
	Subject  string  `json:"sub"`
	Audience words   `json:"aud"`
	Client   string  `json:"client_id"`
	Party    string  `json:"azp"`
	Scope    words   `json:"scope"`
	Scopes   words   `json:"scp"` // what some issuers call it
	Expires  float64 `json:"exp"`
	Issued   float64 `json:"iat"`
	Before   float64 `json:"nbf"`
	Nonce    string  `json:"nonce"`
	AtHash   string  `json:"at_hash"`
	// Kind is what some issuers call a token inside of it, whatever its header says.
	Kind   any             `json:"typ"`
	Events json.RawMessage `json:"events"` // what a token tells of that is no access token (RFC 8417)
}

// words are a text or a list of texts.
type words []string

// UnmarshalJSON implements json.Unmarshaler.
func (w *words) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(w))
}

// accept holds what was told to the list.
func (i *Issuer) accept(t told) (credential.OutsideToken, error) {
	now := i.o.Now()
	client := t.Client
	if client == "" {
		client = t.Party
	}
	scopes := strings.Fields(strings.Join(append(slices.Clone(t.Scope), t.Scopes...), " "))
	switch {
	case t.Subject == "" || len(t.Subject) > 255:
		return credential.OutsideToken{}, refuse("without a subject")
	case t.Nonce != "" || t.AtHash != "":
		// An ID token is for the client it was made for, and no key to anything.
		return credential.OutsideToken{}, refuse("is an ID token")
	case otherKind(t.Kind), len(t.Events) > 0:
		// An ID token of Keycloak need have neither of those; and the name of a client may
		// stand on the list of audiences.
		return credential.OutsideToken{}, refuse("of another kind")
	case !slices.ContainsFunc(t.Audience, func(audience string) bool { return slices.Contains(i.o.Audiences, audience) }):
		return credential.OutsideToken{}, refuse("of another audience")
	case client == "" || t.Party != "" && t.Party != client || !slices.Contains(i.o.Clients, client):
		return credential.OutsideToken{}, refuse("of another client")
	case i.o.Need != "" && !slices.Contains(scopes, i.o.Need):
		return credential.OutsideToken{}, refuse("without the scope that is needed")
	case !now.Before(at(t.Expires)):
		return credential.OutsideToken{}, refuse("expired")
	case t.Before != 0 && now.Add(skew).Before(at(t.Before)):
		return credential.OutsideToken{}, refuse("not valid yet")
	}
	return credential.OutsideToken{Issuer: i.o.URL, Subject: t.Subject, Client: client, Scopes: i.o.Scopes, Issued: at(t.Issued), Expires: at(t.Expires)}, nil
}

// otherKind knows the names by which Keycloak and its kin tell apart what is no access token.
func otherKind(said any) bool {
	kind, _ := said.(string)
	return slices.Contains([]string{"id", "id_token", "refresh", "refresh_token", "offline", "logout"}, strings.ToLower(kind))
}

// at is a NumericDate; what is missing is long ago.
func at(seconds float64) time.Time {
	if seconds <= 0 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// verifyJWT checks a JSON Web Token (RFC 9068; the type is not always said).
func (i *Issuer) verifyJWT(ctx context.Context, text string) (credential.OutsideToken, error) {
	token, err := jose.ParseSignedCompact(text, algorithms())
	if err != nil || len(token.Signatures) != 1 {
		return credential.OutsideToken{}, refuse("not understood")
	}
	head := token.Signatures[0].Protected
	if kind, said := head.ExtraHeaders[jose.HeaderType].(string); said && !slices.Contains([]string{"jwt", "at+jwt", "application/at+jwt"}, strings.ToLower(kind)) {
		return credential.OutsideToken{}, refuse("of another kind")
	}
	keys, err := i.publicKeys(ctx, head.KeyID)
	if err != nil {
		return credential.OutsideToken{}, err
	}
	verifier := oidc.NewVerifier(i.o.URL, keys, &oidc.Config{
		SkipClientIDCheck: true, // done by accept, with the list
		SkipExpiryCheck:   true, // likewise, without go-oidc's leeway of five minutes
		Now:               i.o.Now, SupportedSigningAlgs: algorithmNames(),
	})
	checked, err := verifier.Verify(ctx, text)
	if err != nil {
		return credential.OutsideToken{}, refuse("not signed by the issuer")
	}
	var t told
	if err := checked.Claims(&t); err != nil {
		return credential.OutsideToken{}, refuse("not understood")
	}
	return i.accept(t)
}

func algorithmNames() []string {
	var names []string
	for _, algorithm := range algorithms() {
		names = append(names, string(algorithm))
	}
	return names
}

// publicKeys are the issuer's. They are asked for again when a token names one that is not
// among them, which is how issuers change keys; but not for each such token, and who comes
// with a known key waits for nobody else's question.
func (i *Issuer) publicKeys(ctx context.Context, id string) (*oidc.StaticKeySet, error) {
	if ask, missing := i.stale(id); ask {
		if err := i.renew(ctx, id, missing); err != nil {
			return nil, err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var set oidc.StaticKeySet
	for _, key := range i.keys.Keys {
		if key.Use != "enc" && key.IsPublic() && (id == "" || key.KeyID == "" || key.KeyID == id) {
			set.PublicKeys = append(set.PublicKeys, key.Key)
		}
	}
	return &set, nil
}

// stale reports whether the keys should be asked for, and whether nothing can be judged
// without an answer.
func (i *Issuer) stale(id string) (ask, missing bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	missing = len(i.keys.Keys) == 0 || id != "" && len(i.keys.Key(id)) == 0
	age := i.o.Now().Sub(i.asked)
	return i.asked.IsZero() || age > keysLife || missing && age > keysPause, missing
}

// renew asks for the keys. Its error is nil where the known ones will do.
func (i *Issuer) renew(ctx context.Context, id string, missing bool) error {
	if missing {
		i.asking.Lock()
	} else if !i.asking.TryLock() {
		return nil
	}
	defer i.asking.Unlock()
	ask, missing := i.stale(id)
	if !ask {
		return nil // somebody else has asked meanwhile
	}
	i.mu.Lock()
	err := i.trouble
	rest := !i.tried.IsZero() && i.o.Now().Sub(i.tried) < troublePause
	i.mu.Unlock()
	if !rest {
		err = i.askForKeys(ctx)
	}
	if missing {
		return err
	}
	return nil
}

// askForKeys asks to the end though whoever wanted to know has gone: they could otherwise
// keep others from the answer.
func (i *Issuer) askForKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	fresh, err := i.fetchKeys(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	if err != nil {
		i.tried, i.trouble = i.o.Now(), err
		return err
	}
	i.keys, i.asked, i.tried, i.trouble = fresh, i.o.Now(), time.Time{}, nil
	return nil
}

func (i *Issuer) fetchKeys(ctx context.Context) (jose.JSONWebKeySet, error) {
	var keys jose.JSONWebKeySet
	found, err := oauth.Discover(ctx, i.o.HTTP, oauth.Issuer(i.o.URL))
	if err != nil {
		return keys, fmt.Errorf("ask %s: %w", i.o.URL, err)
	}
	if found.JWKS == "" || found.TemplatedIssuer {
		return keys, fmt.Errorf("ask %s: it has no keys of its own", i.o.URL)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, found.JWKS, nil)
	if err != nil {
		return keys, fmt.Errorf("ask %s for its keys: %w", i.o.URL, err)
	}
	body, err := i.ask(r)
	if err != nil {
		return keys, err
	}
	if err := json.Unmarshal(body, &keys); err != nil || len(keys.Keys) == 0 {
		return keys, fmt.Errorf("ask %s for its keys: no key set", i.o.URL)
	}
	return keys, nil
}

// introspect asks the issuer about a token (RFC 7662), unless it has just said no to it.
func (i *Issuer) introspect(ctx context.Context, text string) (credential.OutsideToken, error) {
	if _, no := i.memory.recall(text, i.o.Now()); no {
		return credential.OutsideToken{}, refuse("refused by its issuer a moment ago")
	}
	found, err := i.askAbout(ctx, text)
	if err == nil || errors.Is(err, identity.ErrNotFound) {
		i.memory.note(text, err == nil, i.o.Now())
	}
	return found, err
}

func (i *Issuer) askAbout(ctx context.Context, text string) (credential.OutsideToken, error) {
	form := url.Values{"token": {text}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, i.o.Introspection, strings.NewReader(form.Encode()))
	if err != nil {
		return credential.OutsideToken{}, errors.New("introspection: not an address")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	// RFC 6749 section 2.3.1: form-encoded inside of Basic.
	r.SetBasicAuth(url.QueryEscape(i.o.ClientID), url.QueryEscape(i.o.Secret.Reveal()))
	body, err := i.ask(r)
	if err != nil {
		return credential.OutsideToken{}, err
	}
	var t told
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&t); err != nil || t.Active == nil {
		return credential.OutsideToken{}, fmt.Errorf("introspection at %s: not an answer of RFC 7662", i.o.URL)
	}
	switch {
	case !*t.Active:
		return credential.OutsideToken{}, refuse("inactive at its issuer")
	case t.Issuer != "" && t.Issuer != i.o.URL:
		return credential.OutsideToken{}, refuse("of another issuer")
	}
	return i.accept(t)
}

// ask reads a JSON answer within bounds.
func (i *Issuer) ask(r *http.Request) ([]byte, error) {
	res, err := i.o.HTTP.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", i.o.URL, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask %s: %w", i.o.URL, err)
	case res.StatusCode != http.StatusOK || len(body) > maxAnswer || kind != "application/json" && !strings.HasSuffix(kind, "+json"):
		return nil, fmt.Errorf("ask %s: status %d, %s, %d bytes", i.o.URL, res.StatusCode, kind, len(body))
	}
	return body, nil
}
