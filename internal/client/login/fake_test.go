package login

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "fake-browser-") {
		fakeBrowser(os.Args[1], os.Args[2:])
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a machine that does many other things may take: a guard against
// waiting for ever.
const patience = 5 * time.Minute

// noLeaks fails the test when a goroutine outlives it. Call it first, so that it
// looks last.
func noLeaks(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		var err error
		// A reaped browser may take its time to end; goleak alone waits half a second.
		for range 600 {
			if err = goleak.Find(ignore); err == nil {
				return
			}
		}
		t.Error(err)
	})
}

// A fakeServer is an authorization server: it keeps codes with what they are bound
// to and gives tokens for them once.
type fakeServer struct {
	t      *testing.T
	http   *httptest.Server
	client *http.Client

	mu     sync.Mutex
	codes  map[string]url.Values // code: the authorization request
	tokens []url.Values          // requests at the token endpoint
	issued int
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	s := &fakeServer{t: t, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	s.http = httptest.NewServer(mux)
	s.client = oauth.NewHTTPClient(oauth.HTTPOptions{})
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		s.http.Close()
	})
	return s
}

func (s *fakeServer) request() Request {
	return Request{
		Conn: &oauth.Conn{
			HTTP: s.client,
			Endpoints: oauth.Endpoints{
				Issuer:        oauth.Issuer(s.http.URL),
				Authorization: s.http.URL + "/authorize",
				Token:         s.http.URL + "/token",
				IssParameter:  true,
			},
			Client: oauth.Client{ID: "the-client", Auth: oauth.AuthNone},
			Now:    time.Now,
		},
		Scopes:   []string{"mail", "offline_access"},
		Extra:    url.Values{"resource": {"https://mail.test/"}, "prompt": {"consent"}},
		Redirect: provider.Redirect{URI: "http://127.0.0.1", AnyPort: true},
		Nonce:    "the-nonce",
		App:      "Letterlock",
		patience: patience,
	}
}

// approve does what the person and the server do: it returns the redirect.
func (s *fakeServer) approve(authURL string) *url.URL {
	s.t.Helper()
	asked := s.asked(authURL)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued++
	code := fmt.Sprintf("4/code-%d", s.issued)
	s.codes[code] = asked
	return s.redirect(asked, url.Values{"code": {code}})
}

func (s *fakeServer) redirect(asked, answer url.Values) *url.URL {
	s.t.Helper()
	back, err := url.Parse(asked.Get("redirect_uri"))
	if err != nil {
		s.t.Fatalf("redirect URI: %v", err)
	}
	answer.Set("state", asked.Get("state"))
	answer.Set("iss", s.http.URL)
	back.RawQuery = answer.Encode()
	if back.Path == "" {
		back.Path = "/"
	}
	return back
}

// asked takes the authorization request apart and holds it to the rules.
func (s *fakeServer) asked(authURL string) url.Values {
	s.t.Helper()
	parsed, err := url.Parse(authURL)
	if err != nil {
		s.t.Fatalf("authorization URL: %v", err)
	}
	asked := parsed.Query()
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "the-client", "scope": "mail offline_access",
		"code_challenge_method": "S256", "nonce": "the-nonce", "prompt": "consent", "resource": "https://mail.test/",
	} {
		if got := asked.Get(name); got != want {
			s.t.Errorf("authorization URL: %s is %q, want %q", name, got, want)
		}
	}
	if len(asked.Get("state")) < 22 || len(asked.Get("code_challenge")) != 43 {
		s.t.Errorf("authorization URL: weak state or challenge: %s", parsed.RawQuery)
	}
	for _, name := range []string{"code_verifier", "client_secret"} {
		if asked.Has(name) {
			s.t.Errorf("authorization URL holds %s", name)
		}
	}
	return asked
}

func (s *fakeServer) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = append(s.tokens, r.PostForm)
	asked, ok := s.codes[r.PostForm.Get("code")]
	delete(s.codes, r.PostForm.Get("code"))
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	w.Header().Set("Content-Type", "application/json")
	if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") ||
		r.PostForm.Get("redirect_uri") != asked.Get("redirect_uri") || r.PostForm.Get("resource") != "https://mail.test/" {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": "invalid_grant", "error_description": "no such code"})
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token_type": "Bearer", "access_token": "access-for-" + asked.Get("state")[:8],
		"refresh_token": "refresh", "expires_in": 3600,
	})
}

// A fakePerson opens addresses by hand of the test.
type fakePerson struct {
	opens   chan string // addresses; nil: no browser
	shows   chan string
	devices chan oauth.DeviceAuth
	tells   chan string
	pastes  []string // lines for Ask, then io.EOF
	answer  func(n int) string
	asked   int
}

func newFakePerson() *fakePerson {
	return &fakePerson{
		opens: make(chan string, 4), shows: make(chan string, 4),
		devices: make(chan oauth.DeviceAuth, 1), tells: make(chan string, 64),
	}
}

func (p *fakePerson) OpenBrowser(address string) error {
	if p.opens == nil {
		return errors.New("no browser here\x1b[2J")
	}
	p.opens <- address
	return nil
}

func (p *fakePerson) ShowURL(address string)           { p.shows <- address }
func (p *fakePerson) ShowDevice(auth oauth.DeviceAuth) { p.devices <- auth }
func (p *fakePerson) Tell(line string)                 { p.tells <- line }

func (p *fakePerson) Ask(ctx context.Context, _ string) (string, error) {
	p.asked++
	if p.answer != nil {
		return p.answer(p.asked), nil
	}
	if len(p.pastes) == 0 {
		return "", io.EOF
	}
	line := p.pastes[0]
	p.pastes = p.pastes[1:]
	return line, ctx.Err()
}

// told returns all remarks so far.
func (p *fakePerson) told() string {
	var all []string
	for {
		select {
		case line := <-p.tells:
			all = append(all, line)
		default:
			return strings.Join(all, "\n")
		}
	}
}

// A run is a flow under way.
type run struct {
	t      *testing.T
	person *fakePerson
	result chan result
}

type result struct {
	token oauth.Token
	err   error
}

type flowFunc func(context.Context, Request, Person) (oauth.Token, error)

func start(t *testing.T, ctx context.Context, flow flowFunc, req Request) *run {
	t.Helper()
	r := &run{t: t, person: newFakePerson(), result: make(chan result, 1)}
	go func() {
		token, err := flow(ctx, req, r.person)
		r.result <- result{token, err}
	}()
	return r
}

// opened waits for the browser.
func (r *run) opened() string {
	r.t.Helper()
	select {
	case address := <-r.person.opens:
		return address
	case got := <-r.result:
		r.t.Fatalf("the flow ended before the browser: %v", got.err)
	case <-time.After(patience):
		r.t.Fatal("no browser was opened")
	}
	return ""
}

// ended waits for the flow.
func (r *run) ended() (oauth.Token, error) {
	r.t.Helper()
	select {
	case got := <-r.result:
		return got.token, got.err
	case <-time.After(patience):
		r.t.Fatal("the flow does not end")
	}
	return oauth.Token{}, nil
}

// waits fails when the flow has ended.
func (r *run) waits() {
	r.t.Helper()
	select {
	case got := <-r.result:
		r.t.Fatalf("the flow ended: %v", got.err)
	default:
	}
}

// succeeds waits for the token of the attempt with this authorization URL.
func (r *run) succeeds(authURL string) {
	r.t.Helper()
	token, err := r.ended()
	if err != nil {
		r.t.Fatalf("the flow: %v", err)
	}
	parsed, _ := url.Parse(authURL)
	if want := "access-for-" + parsed.Query().Get("state")[:8]; token.Access.Reveal() != want {
		r.t.Errorf("token is %q, want %q", token.Access.Reveal(), want)
	}
}

// get is the browser: one GET on a connection of its own.
func get(t *testing.T, address string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	answer, err := client.Get(address)
	if err != nil {
		t.Fatalf("GET: %v", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("GET: %v", err)
	}
	return answer.StatusCode, string(body)
}
