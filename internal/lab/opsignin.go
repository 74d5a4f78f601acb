package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// This file signs people in without a browser: fast, for tests whose subject is
// not the sign-in. Package lab/browser does it with Chromium.

// maxPages bounds how many pages and redirects a sign-in may take.
const maxPages = 30

// HTTPClient trusts the provider's certificate and follows no redirects.
func (op *OP) HTTPClient() *http.Client {
	transport := &http.Transport{DisableKeepAlives: true}
	if op.trust != nil {
		transport.TLSClientConfig = op.trust.Client()
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       5 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// SignIn goes to an authorization address as the person would, allows access,
// and returns the redirect away from the provider without following it.
func (op *OP) SignIn(ctx context.Context, authURL string, who Person) (*url.URL, error) {
	return op.walk(ctx, authURL, who, "allow")
}

// Deny is SignIn of a person who then refuses access.
func (op *OP) Deny(ctx context.Context, authURL string, who Person) (*url.URL, error) {
	return op.walk(ctx, authURL, who, "deny")
}

// Approve goes to a device flow's verification_uri_complete and confirms.
func (op *OP) Approve(ctx context.Context, verification string, who Person) error {
	_, err := op.walk(ctx, verification, who, "allow")
	return err
}

func (op *OP) walk(ctx context.Context, start string, who Person, answer string) (*url.URL, error) {
	client := op.HTTPClient()
	var err error
	if client.Jar, err = cookiejar.New(nil); err != nil {
		return nil, err
	}
	at, err := url.Parse(start)
	if err != nil {
		return nil, err
	}
	home := at.Host
	var fields url.Values // to post; nil: get
	for range maxPages {
		if at.Host != home {
			return at, nil
		}
		body, next, err := fetch(ctx, client, at, fields)
		if err != nil {
			return nil, err
		}
		if next != nil {
			at, fields = next, nil
			continue
		}
		if strings.Contains(body, `id="done"`) {
			return nil, nil
		}
		if at, fields, err = fill(at, body, who, answer); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("sign in at the identity provider: it never ended")
}

// fetch gets or posts, and returns the page or where it redirects to.
func fetch(ctx context.Context, client *http.Client, at *url.URL, fields url.Values) (string, *url.URL, error) {
	method, payload := http.MethodGet, io.Reader(nil)
	if fields != nil {
		method, payload = http.MethodPost, strings.NewReader(fields.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), payload)
	if err != nil {
		return "", nil, err
	}
	if fields != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); to != "" {
		next, err := at.Parse(to)
		return "", next, err
	}
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return string(page), nil, err
}

// fill answers one of the pages of op.mjs.
func fill(at *url.URL, page string, who Person, answer string) (*url.URL, url.Values, error) {
	if problem := between(page, `id="problem">`, `</p>`); problem != "" {
		return nil, nil, fmt.Errorf("sign in at the identity provider: %s", problem)
	}
	fields := url.Values{}
	// Hidden fields carry the device flow's code and its protection against
	// forged requests.
	hidden := regexp.MustCompile(`<input\s+type="hidden"\s+name="([^"]*)"\s+value="([^"]*)"`)
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		fields.Set(m[1], m[2])
	}
	switch {
	case strings.Contains(page, `name="password"`):
		fields.Set("username", who.Email)
		fields.Set("password", who.Password)
	case strings.Contains(page, `id="allow"`):
		fields.Set("answer", answer)
	case strings.Contains(page, `id="op.deviceConfirmForm"`):
	case strings.Contains(page, `<title>Submitting Callback</title>`): // a form that posts itself
	case strings.Contains(page, `id="op.deviceInputForm"`):
		fields.Set("user_code", between(page, `<input`+"\n    value=\"", `"`))
	default:
		return nil, nil, fmt.Errorf("sign in at the identity provider: unknown page %.200q", page)
	}
	if action := between(page, `action="`, `"`); action != "" {
		next, err := at.Parse(action)
		return next, fields, err
	}
	return at, fields, nil
}

func between(s, from, to string) string {
	_, rest, found := strings.Cut(s, from)
	if !found {
		return ""
	}
	inner, _, _ := strings.Cut(rest, to)
	return inner
}

// OAuth is the configuration of a client at the provider, for the independent
// golang.org/x/oauth2.
func (op *OP) OAuth(clientID, redirect string, scopes ...string) *oauth2.Config {
	if len(scopes) == 0 {
		scopes = []string{"openid", "email", "offline_access", "mail"}
	}
	cfg := &oauth2.Config{
		ClientID: clientID, RedirectURL: redirect, Scopes: scopes,
		Endpoint: oauth2.Endpoint{
			AuthURL: op.AuthURL(), TokenURL: op.TokenURL(), DeviceAuthURL: op.DeviceURL(), AuthStyle: oauth2.AuthStyleInParams,
		},
	}
	if clientID == DesktopClient {
		cfg.ClientSecret = ClientSecret
	}
	return cfg
}

// Context carries HTTPClient to golang.org/x/oauth2 and go-oidc.
func (op *OP) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, op.HTTPClient())
}

// Token signs a person in and returns their tokens: access, refresh, and
// id_token as Extra.
func (op *OP) Token(ctx context.Context, who Person, scopes ...string) (*oauth2.Token, error) {
	cfg := op.OAuth(PublicClient, "http://127.0.0.1:1/", scopes...)
	verifier, state := oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	// OpenID Connect Core section 11: without prompt=consent the provider drops
	// offline_access, and no refresh token comes.
	consent := oauth2.SetAuthURLParam("prompt", "consent")
	back, err := op.SignIn(ctx, cfg.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), consent), who)
	if err != nil {
		return nil, err
	}
	q := back.Query()
	if q.Get("state") != state || q.Get("iss") != op.Issuer || q.Get("code") == "" {
		return nil, fmt.Errorf("sign in at the identity provider: it answered error %q, iss %q", q.Get("error"), q.Get("iss"))
	}
	return cfg.Exchange(op.Context(ctx), q.Get("code"), oauth2.VerifierOption(verifier))
}
