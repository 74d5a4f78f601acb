package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Person is an account at the lab's identity provider and mail server.
type Person struct {
	Name     string `json:"name"` // what may be typed at the sign-in page, besides Email
	Email    string `json:"email"`
	Password string `json:"password"` // at the provider's page; the mail servers know none
	Subject  string `json:"sub"`      // the provider's id for the person, unlike the address
}

// Alice is the person most tests sign in as.
func Alice() Person {
	return Person{Name: "alice", Email: "alice@try.test", Password: "alice-at-the-page", Subject: "1001"}
}

// Bob is somebody else.
func Bob() Person {
	return Person{Name: "bob", Email: "bob@try.test", Password: "bob-at-the-page", Subject: "1002"}
}

// Client ids registered at the lab's identity provider. DesktopClient has a
// secret (ClientSecret) as Google's do; DovecotClient may only introspect.
const (
	PublicClient  = "letterlock"
	DesktopClient = "desktop"
	DovecotClient = "dovecot"
	ClientSecret  = "lab-client-secret-0123456789abcdef"
)

// OPOptions describe an identity provider.
type OPOptions struct {
	// Issuer replaces the provider's own address in everything it says, for a
	// fault injector or Internet name in front of it. Empty: its own address.
	Issuer string
	// IssuerCA signed what stands at Issuer, so that SignIn can go there.
	IssuerCA *CA
	// CA makes it speak https; nil: http on loopback.
	CA *CA
	// People who can sign in. Default: Alice and Bob.
	People []Person
	// RedirectURIs of both user clients; any port is accepted on loopback.
	// Default: the root, /callback and /cb of 127.0.0.1, [::1] and localhost.
	RedirectURIs []string
	// AccessTTL is the life of access tokens, in whole seconds. Default: an hour.
	AccessTTL time.Duration
	// DeviceTTL is the life of device codes. Default: ten minutes.
	DeviceTTL time.Duration
	// TokenBits is the randomness in a token and so its length: base64url of
	// it, 43 octets for the default of 256. 16384 gives 2,731 octets.
	TokenBits int
	// KeepRefreshToken turns rotation off.
	KeepRefreshToken bool
	// SendScope adds a scope smtp, for a right that can do nothing but send.
	SendScope bool
	// Audience, an URL, makes access tokens JSON Web Tokens (RFC 9068) for it.
	Audience string
	// Backchannel is where both user clients hear of logouts (OpenID Connect Back-Channel
	// Logout 1.0); empty: nowhere.
	Backchannel string
	// AfterLogout is where both user clients may send people after a log-out there; empty: nowhere.
	AfterLogout string
	// UserInfoOnly keeps the address out of ID tokens, as oidc-provider does by itself.
	UserInfoOnly bool
	// Registration turns dynamic client registration (RFC 7591) on.
	Registration bool
}

// OP is a running identity provider: npm oidc-provider, with PKCE required,
// device flow, refresh tokens rotated at each use (a second use revokes the
// whole grant), introspection, revocation and the iss parameter of RFC 9207.
type OP struct {
	Issuer  string // base URL, without a slash at the end
	Address string // host:port it listens on
	People  []Person

	process *Process
	trust   *CA
	mu      sync.Mutex
	events  []Event
	changed chan struct{}
	next    int
}

// Event is something the provider did.
type Event struct {
	Kind    string `json:"event"` // request, grant, revoked, authorization, server_error
	Method  string `json:"method"`
	Route   string `json:"route"` // token, introspection, authorization, device_authorization, revocation, registration ...
	Status  int    `json:"status"`
	Type    string `json:"grant_type"` // of a grant
	OK      bool   `json:"ok"`
	Client  string `json:"client"`
	Account string `json:"account"` // Person.Subject
	Error   string `json:"error"`
	Detail  string `json:"detail"`
	ID      int    `json:"id"`
	Count   int    `json:"count"`
}

// GrantDevice is the grant type of RFC 8628.
const GrantDevice = "urn:ietf:params:oauth:grant-type:device_code"

// StartOP starts the identity provider; about 0.6 s.
func StartOP(ctx context.Context, o OPOptions) (*OP, error) {
	node, err := find("node", "nodejs")
	if err != nil {
		return nil, err
	}
	dir, err := nodeFolder()
	if err != nil {
		return nil, err
	}
	cfg, err := o.json()
	if err != nil {
		return nil, err
	}
	op := &OP{People: o.people(), changed: make(chan struct{}), trust: o.IssuerCA}
	if op.trust == nil {
		op.trust = o.CA
	}
	op.process, err = StartProcess(ProcessOptions{
		Name: "oidc-provider", Path: node, Args: []string{"op.mjs"}, Dir: dir, Stdin: true,
		Env:   append(os.Environ(), "NODE_NO_WARNINGS=1"),
		OnLog: op.record,
	})
	if err != nil {
		return nil, err
	}
	if err := op.ready(ctx, cfg); err != nil {
		op.Stop()
		return nil, fmt.Errorf("start identity provider: %w", err)
	}
	return op, nil
}

func (o OPOptions) people() []Person {
	if len(o.People) == 0 {
		return []Person{Alice(), Bob()}
	}
	return o.People
}

func (o OPOptions) json() (string, error) {
	cfg := map[string]any{
		"issuer": o.Issuer, "accounts": o.people(), "client_secret": ClientSecret,
		"redirect_uris": o.RedirectURIs, "rotate": !o.KeepRefreshToken, "registration": o.Registration, "audience": o.Audience, "backchannel": o.Backchannel,
		"after_logout": o.AfterLogout, "userinfo_only": o.UserInfoOnly,
		"access_ttl": 3600, "device_ttl": 600, "device_interval": 1, "token_bits": 256,
	}
	if len(o.RedirectURIs) == 0 {
		var all []string
		for _, host := range []string{"127.0.0.1", "localhost", "[::1]"} {
			for _, path := range []string{"/", "/callback", "/cb"} {
				all = append(all, "http://"+host+path)
			}
		}
		cfg["redirect_uris"] = all
	}
	if o.AccessTTL > 0 {
		cfg["access_ttl"] = int(o.AccessTTL.Seconds())
	}
	if o.DeviceTTL > 0 {
		cfg["device_ttl"] = int(o.DeviceTTL.Seconds())
	}
	cfg["scopes"] = []string{"openid", "offline_access", "email", "mail"}
	if o.SendScope {
		cfg["scopes"] = append(cfg["scopes"].([]string), "smtp")
	}
	if o.TokenBits > 0 {
		cfg["token_bits"] = o.TokenBits
	}
	if o.CA != nil {
		cert, err := o.CA.Issue()
		if err != nil {
			return "", err
		}
		cfg["cert_file"], cfg["key_file"] = cert.CertFile, cert.KeyFile
	}
	out, err := json.Marshal(cfg)
	return string(out), err
}

func (op *OP) ready(ctx context.Context, cfg string) error {
	if err := op.process.Send(cfg); err != nil {
		return err
	}
	line, err := op.process.WaitLog(ctx, func(s string) bool {
		return strings.HasPrefix(s, `{"event":"ready"`) || strings.HasPrefix(s, `{"event":"failed"`)
	})
	if err != nil {
		return err
	}
	var ready struct{ Event, Issuer, Address, Error string }
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		return err
	}
	if ready.Event != "ready" {
		return errors.New(ready.Error)
	}
	op.Issuer, op.Address = ready.Issuer, ready.Address
	return nil
}

// record is called by the process runner for each line.
func (op *OP) record(line string) {
	var e Event
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
		return
	}
	op.mu.Lock()
	defer op.mu.Unlock()
	op.events = append(op.events, e)
	close(op.changed)
	op.changed = make(chan struct{})
}

// Stop ends the provider; every token dies with it.
func (op *OP) Stop() { op.process.Stop() }

// Log returns the provider's output.
func (op *OP) Log() []string { return op.process.Log() }

// Events returns what happened so far. An event may follow the response it
// speaks of by some milliseconds: use Wait to be sure.
func (op *OP) Events() []Event {
	op.mu.Lock()
	defer op.mu.Unlock()
	return append([]Event(nil), op.events...)
}

// Count says how many events satisfy match, after everything the provider did
// up to now has been reported.
func (op *OP) Count(ctx context.Context, match func(Event) bool) (int, error) {
	if _, err := op.command(ctx, map[string]any{}); err != nil {
		return 0, err
	}
	n := 0
	for _, e := range op.Events() {
		if match(e) {
			n++
		}
	}
	return n, nil
}

// Refreshes counts refresh requests answered with a token.
func (op *OP) Refreshes(ctx context.Context) (int, error) {
	return op.Count(ctx, func(e Event) bool { return e.Kind == "grant" && e.Type == "refresh_token" && e.OK })
}

// Wait waits for the first event that satisfies match, past ones included.
func (op *OP) Wait(ctx context.Context, match func(Event) bool) (Event, error) {
	for seen := 0; ; {
		ended := over(op.process.Done()) // before the events are looked at: the last may come with the end
		op.mu.Lock()
		events, changed := op.events[seen:], op.changed
		op.mu.Unlock()
		for _, e := range events {
			if match(e) {
				return e, nil
			}
		}
		seen += len(events)
		if ended {
			return Event{}, errors.New("wait for identity provider: it ended")
		}
		select {
		case <-changed:
		case <-op.process.Done():
		case <-ctx.Done():
			return Event{}, fmt.Errorf("wait for identity provider: %w", ctx.Err())
		}
	}
}

// SetAccessTTL changes the life of access tokens issued from now on.
func (op *OP) SetAccessTTL(ctx context.Context, ttl time.Duration) error {
	_, err := op.command(ctx, map[string]any{"access_ttl": int(ttl.Seconds())})
	return err
}

// Revoke ends every grant of a person, as an administrator would, and returns
// how many there were.
func (op *OP) Revoke(ctx context.Context, email string) (int, error) {
	return op.command(ctx, map[string]any{"revoke": email})
}

func (op *OP) command(ctx context.Context, cmd map[string]any) (int, error) {
	op.mu.Lock()
	op.next++
	id := op.next
	op.mu.Unlock()
	cmd["id"] = id
	line, err := json.Marshal(cmd)
	if err != nil {
		return 0, err
	}
	if err := op.process.Send(string(line)); err != nil {
		return 0, err
	}
	answer, err := op.Wait(ctx, func(e Event) bool { return e.Kind == "answer" && e.ID == id })
	return answer.Count, err
}

// Endpoint addresses, for programs that cannot read the provider's metadata.
func (op *OP) IntrospectionURL() string { return op.Issuer + "/token/introspection" }

// TokenURL is the token endpoint.
func (op *OP) TokenURL() string { return op.Issuer + "/token" }

// AuthURL is the authorization endpoint.
func (op *OP) AuthURL() string { return op.Issuer + "/auth" }

// DeviceURL is the device authorization endpoint.
func (op *OP) DeviceURL() string { return op.Issuer + "/device/auth" }

// moduleRoot finds the folder of go.mod, upwards from where we run: tests run
// in their package's folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find module root: no go.mod above the working folder")
		}
		dir = parent
	}
}

func nodeFolder() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "internal", "lab", "node")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider", "package.json")); err != nil {
		return "", &Missing{Program: "oidc-provider", Package: "it by npm ci in internal/lab/node"}
	}
	return dir, nil
}

// Pid is the id of the process and of its group.
func (op *OP) Pid() int { return op.process.Pid() }
