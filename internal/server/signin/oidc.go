package signin

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// OIDCOptions are one client at an OpenID Connect issuer.
type OIDCOptions struct {
	Label    string // in texts for people
	Issuer   string // byte for byte
	ClientID string
	Secret   secret.String // empty: a public client
	Scopes   []string      // besides openid, profile and email
	// Again: a refresh token is asked for, which goes into Account.Refresh.
	Again bool
	// Claim must have one of Values; it is a text, a truth value, or a list of texts.
	Claim  string
	Values []string
	// Emails: verified addresses are wanted, for a first sign-in.
	Emails bool

	HTTP *http.Client // of oauth.NewHTTPClient
	Now  func() time.Time
}

// OIDC is any OpenID Connect issuer as a Provider.
type OIDC struct {
	o OIDCOptions

	mu    sync.Mutex
	found oauth.Metadata
	asked time.Time

	known   []crypto.PublicKey // for logout tokens
	knownAt time.Time
}

// metadataLife is how long endpoints are believed without asking again.
const metadataLife = time.Hour

// NewOIDC asks nobody yet: an issuer that is away must not keep the daemon from starting.
func NewOIDC(o OIDCOptions) *OIDC {
	if o.Label == "" {
		o.Label = o.Issuer
	}
	return &OIDC{o: o}
}

func (p *OIDC) conn(ctx context.Context) (*oauth.Conn, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, err
	}
	client := oauth.Client{ID: p.o.ClientID, Secret: p.o.Secret, Auth: oauth.AuthNone}
	if !p.o.Secret.IsZero() {
		// OpenID Connect Discovery section 3: without a word it is Basic.
		client.Auth = oauth.AuthBasic
		if len(m.AuthMethods) > 0 && !slices.Contains(m.AuthMethods, string(oauth.AuthBasic)) {
			client.Auth = oauth.AuthPost
		}
	}
	return &oauth.Conn{HTTP: p.o.HTTP, Now: p.o.Now, Endpoints: m.Endpoints, Client: client}, nil
}

func (p *OIDC) metadata(ctx context.Context) (oauth.Metadata, error) {
	p.mu.Lock()
	found, asked := p.found, p.asked
	p.mu.Unlock()
	if !asked.IsZero() && p.o.Now().Sub(asked) < metadataLife {
		return found, nil
	}
	// Not under the lock: a slow issuer holds up nobody but those who wait for it anyway.
	found, err := oauth.Discover(ctx, p.o.HTTP, oauth.Issuer(p.o.Issuer))
	if err != nil {
		return found, err
	}
	if found.TemplatedIssuer {
		// Whoever makes a tenant of their own chooses what it says about addresses and ids.
		return found, errors.New("the issuer stands for every tenant: name your own")
	}
	if found.Authorization == "" || found.JWKS == "" {
		return found, errors.New("the issuer has no way to sign in by browser, or no keys")
	}
	p.mu.Lock()
	p.found, p.asked = found, p.o.Now()
	p.mu.Unlock()
	return found, nil
}

// Begin implements Provider.
func (p *OIDC) Begin(ctx context.Context, f Flow) (string, error) {
	conn, err := p.conn(ctx)
	if err != nil {
		return "", err
	}
	scopes := []string{"openid", "profile", "email"}
	for _, scope := range p.o.Scopes {
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	req := oauth.AuthRequest{RedirectURI: f.RedirectURI, State: f.State, Verifier: secret.New(f.Verifier), Nonce: f.Nonce}
	var prompts []string
	if f.Afresh {
		prompts = append(prompts, afreshPrompt(p.o.Issuer))
	}
	if p.o.Again {
		// OpenID Connect Core section 11: without the prompt the scope may be ignored.
		scopes = append(scopes, "offline_access")
		prompts = append(prompts, "consent")
	}
	if len(prompts) > 0 {
		req.Extra = url.Values{"prompt": {strings.Join(prompts, " ")}}
	}
	req.Scopes = scopes
	return conn.AuthCodeURL(req)
}

// afreshPrompt has the person asked although the issuer knows the browser (OpenID Connect
// Core section 3.1.2.1, which each issuer has to support, section 15.1). Google documents
// none, consent and select_account only, and refuses what it does not know.
func afreshPrompt(issuer string) string {
	if strings.TrimSuffix(issuer, "/") == "https://accounts.google.com" {
		return "select_account"
	}
	return "login"
}

// Finish implements Provider.
func (p *OIDC) Finish(ctx context.Context, f Flow, query string) (Account, error) {
	conn, err := p.conn(ctx)
	if err != nil {
		return Account{}, err
	}
	answer, err := oauth.ParseCallback(query)
	if err != nil {
		return Account{}, mistaken(err.Error())
	}
	if err := conn.CheckCallback(answer, f.State); err != nil { // state once more, and iss (RFC 9207)
		return Account{}, mistaken(err.Error())
	}
	if answer.Err != nil {
		return Account{}, answer.Err
	}
	token, err := conn.ExchangeCode(ctx, answer.Code, f.RedirectURI, secret.New(f.Verifier), nil)
	if err != nil {
		return Account{}, err
	}
	id, err := conn.VerifyID(ctx, token.ID, f.Nonce, false)
	var fault *oauth.Error
	if errors.As(err, &fault) {
		return Account{}, err // the keys could not be had
	}
	if err != nil {
		return Account{}, &Refused{Reason: "id-token", Detail: err.Error(), What: p.o.Label + " did not prove who you are.", Hint: "Begin again. If it happens each time, your administrator finds the reason in the log."}
	}
	account, err := p.who(ctx, conn, id, token)
	if p.o.Again {
		account.Refresh = token.Refresh
	}
	return account, err
}
