package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A desk is letterlockd's pages on a real database, beside a GitHub.
type desk struct {
	t        *testing.T
	p        *program
	out      *bytes.Buffer
	public   string
	folder   string
	listener net.Listener
	github   *fakegithub.Server
	conf     string
	door     *credential.Door // runs only where a test has it run
	database string           // its URL; "": SQLite in the folder
}

func newDesk(t *testing.T, scheme string) *desk {
	t.Helper()
	d := bareDesk(t, scheme)
	d.github = fakegithub.New(time.Now, "app", "hush", d.public+"/signin/github/callback")
	at := httptest.NewServer(d.github)
	t.Cleanup(at.Close)
	d.configure("example.org", fmt.Sprintf(`[signin.github]
type = "github"
label = "GitHub"
url = %q
client_id = "app"
client_secret_file = %q
organization = 9919
`, at.URL, d.write("secret", "hush\n")))
	return d
}

// bareDesk has an address and no configuration yet: providers want to know the address.
func bareDesk(t *testing.T, scheme string) *desk {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &desk{t: t, out: &bytes.Buffer{}, listener: listener, public: scheme + "://" + listener.Addr().String(), folder: t.TempDir()}
}

func (d *desk) write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// configure writes the file and makes the program that reads it.
func (d *desk) configure(domain, sections string) {
	d.t.Helper()
	if d.database == "" {
		d.database = "sqlite:" + d.folder + "/db"
	}
	d.conf = d.write("letterlockd.toml", fmt.Sprintf("domains = [%q]\n[database]\nurl = %q\n[web]\npublic_url = %q\nmaster_key_file = \"%s/master.key\"\n",
		domain, d.database, d.public, d.folder)+sections)
	d.p = &program{
		args: []string{"letterlockd"}, file: d.conf, now: time.Now, random: rand.Reader,
		getenv: func(string) string { return "" }, term: &cli.Terminal{In: strings.NewReader(""), Out: d.out, Err: io.Discard},
	}
	d.t.Cleanup(func() {
		if d.p.db != nil {
			if err := d.p.db.Close(); err != nil {
				d.t.Error(err)
			}
		}
	})
}

// handler is the pages as serve makes them.
func (d *desk) handler() http.Handler {
	d.t.Helper()
	conf, err := d.p.config()
	if err != nil {
		d.t.Fatal(err)
	}
	db, err := d.p.store(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	if d.door == nil {
		d.door = credential.New(credential.Options{Store: db, Tokens: db})
	}
	l := &plan{conf: conf, db: db, log: slog.New(slog.DiscardHandler), now: time.Now, inner: d.door}
	handler, err := l.pages(d.p)
	if err != nil {
		d.t.Fatal(err)
	}
	return handler
}

func (d *desk) serve() {
	d.t.Helper()
	server := &httptest.Server{Listener: d.listener, Config: &http.Server{Handler: d.handler(), ReadHeaderTimeout: time.Minute}}
	server.Start()
	d.t.Cleanup(server.Close)
}

// run is a command at the shell.
func (d *desk) run(args ...string) (string, error) {
	d.out.Reset()
	root := d.p.root()
	root.SetArgs(append([]string{"--config", d.conf}, args...))
	root.SetOut(d.out)
	root.SetErr(io.Discard)
	err := root.ExecuteContext(d.t.Context())
	return strings.TrimSpace(d.out.String()), err
}

func (d *desk) must(args ...string) string {
	d.t.Helper()
	out, err := d.run(args...)
	if err != nil {
		d.t.Fatalf("%v: %v", args, err)
	}
	return out
}

// person finds out who is in the database.
func (d *desk) person(address string) (identity.Person, []identity.Session, []identity.Binding) {
	d.t.Helper()
	p, err := d.p.db.PersonByAddress(d.t.Context(), address)
	sessions, err2 := d.p.db.Sessions(d.t.Context(), p.ID)
	bindings, err3 := d.p.db.Bindings(d.t.Context(), p.ID)
	if err := errors.Join(err, err2, err3); err != nil {
		d.t.Fatal(err)
	}
	return p, sessions, bindings
}

// From the shell to a session, on a real database: a person is added, invited, signs in at
// GitHub, says yes, and comes in by GitHub alone from then on.
func TestInviteAndSignIn(t *testing.T) {
	d := newDesk(t, "http")
	d.must("person", "add", "ann@example.org")
	link := d.must("person", "invite", "ann@example.org")
	if !strings.HasPrefix(link, d.public+"/signin/invitation?code=") {
		t.Fatalf("link %q", link)
	}
	d.github.Sit(&fakegithub.Person{ID: 7, Login: "octo-ann", Orgs: []fakegithub.Membership{{ID: 9919, State: "active"}}})
	d.serve()
	browser := func() *http.Client {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Client{Jar: jar, Timeout: time.Minute}
	}
	read := func(res *http.Response, err error) (string, *http.Response) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body), res
	}
	b := browser()
	read(b.Get(link))
	page, res := read(b.Get(d.public + "/signin/github"))
	found := regexp.MustCompile(`name="pending" value="([^"]+)"`).FindStringSubmatch(page)
	if found == nil || !strings.Contains(page, "octo-ann") {
		t.Fatalf("%s %s", res.Status, page)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": ""} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	read(b.PostForm(d.public+"/signin/invitation", url.Values{"pending": {found[1]}, "decision": {"accept"}}))
	p, sessions, bindings := d.person("ann@example.org")
	if len(sessions) != 1 || len(bindings) != 1 || bindings[0].Subject != "7" || sessions[0].How != "github" {
		t.Fatalf("%+v: %+v, %+v", p, sessions, bindings)
	}
	read(browser().Get(d.public + "/signin"))
	if _, sessions, _ = d.person("ann@example.org"); len(sessions) != 2 {
		t.Errorf("%d sessions after the second sign-in", len(sessions))
	}
	if trail := d.must("audit", "list", "--json"); !strings.Contains(trail, "signin.invited") || !strings.Contains(trail, "signin.bound") || strings.Contains(trail, strings.TrimPrefix(link, d.public+"/signin/invitation?code=")) {
		t.Errorf("audit trail: %s", trail)
	}
	// Disabled: the sessions are gone, and GitHub's word is worth nothing.
	d.must("person", "disable", "ann@example.org")
	page, res = read(browser().Get(d.public + "/signin"))
	if _, sessions, _ = d.person("ann@example.org"); len(sessions) != 0 || res.StatusCode != http.StatusForbidden || !strings.Contains(page, "not in use at present") {
		t.Errorf("disabled: %d sessions, %s %s", len(sessions), res.Status, page)
	}
	// Pages have one name, and forms come from them.
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, d.public+"/signin", nil)
	req.Host = "evil.test"
	if _, res = read(browser().Do(req)); res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another name: %s", res.Status)
	}
	req, _ = http.NewRequestWithContext(t.Context(), http.MethodPost, d.public+"/signout", nil)
	req.Header.Set("Origin", "https://evil.test")
	if _, res = read(b.Do(req)); res.StatusCode != http.StatusForbidden {
		t.Errorf("another site's form: %s", res.Status)
	}
}

func TestInviteRefuses(t *testing.T) {
	d := newDesk(t, "http")
	d.must("person", "add", "ann@example.org")
	d.must("person", "add", "old@example.org")
	d.must("person", "disable", "old@example.org")
	for _, args := range [][]string{{"nobody@example.org"}, {"old@example.org"}, {"ann@example.org", "--for", "1s"}, {"ann@example.org", "--for", "999h"}} {
		if out, err := d.run(append([]string{"person", "invite"}, args...)...); err == nil || out != "" {
			t.Errorf("%v: %q, %v", args, out, err)
		}
	}
	if err := d.listener.Close(); err != nil {
		t.Error(err)
	}
}

func TestMasterKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	first, err := masterKey(path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("%v, %v", info, err)
	}
	// Another instance that starts at the same time does not replace it.
	if err := makeMasterKey(path, rand.Reader); err != nil {
		t.Error(err)
	}
	second, err := masterKey(path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := first.For("x")
	two, _ := second.For("x")
	if !bytes.Equal(one, two) || len(one) != 32 {
		t.Error("the key changed")
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := masterKey(path, rand.Reader); !errors.Is(err, atomicfile.ErrNotPrivate) {
		t.Errorf("a key that everybody reads: %v", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("short"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := masterKey(path, rand.Reader); err == nil {
		t.Error("a short key was taken")
	}
	if _, err := masterKey(filepath.Join(t.TempDir(), "k"), strings.NewReader("few")); err == nil {
		t.Error("a key without randomness")
	}
}

// The listener speaks TLS with the files of the configuration, and tells browsers so.
func TestWebListener(t *testing.T) {
	ca, err := lab.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ca.Stop)
	pair, err := ca.Issue("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, "https")
	handler := d.handler()
	d.p.conf.Web.Certificate, d.p.conf.Web.Key = pair.CertFile, pair.KeyFile
	l := &plan{conf: d.p.conf, db: d.p.db, log: slog.New(slog.DiscardHandler), now: time.Now}
	serve, err := l.webServer(handler)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, d.listener) }()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.Client(), DisableKeepAlives: true}, Timeout: time.Minute}
	res, err := client.Get(d.public + "/signin?choose=1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Strict-Transport-Security"), "max-age=31536000") {
		t.Errorf("%s %v", res.Status, res.Header)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	d.p.conf.Web.Key = "/nowhere"
	if _, err := l.webServer(handler); err == nil {
		t.Error("a listener without its key")
	}
}

// A flood from one network is refused, others come in, and this very host is not counted.
func TestPageScale(t *testing.T) {
	begun := time.Now() // in one moment: what was counted fades from the end of ten minutes on
	l := &plan{conf: &config.Daemon{}, log: slog.New(slog.DiscardHandler), now: func() time.Time { return begun }}
	s, err := l.pageScale()
	if err != nil {
		t.Fatal(err)
	}
	flood, other := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("198.51.100.5")
	let := 0
	for range 1000 {
		if !s.Ask(t.Context(), flood) {
			let++
		}
	}
	if let < 500 || let > 610 {
		t.Errorf("%d of 1000 visits in one moment", let)
	}
	if s.Ask(t.Context(), other) {
		t.Error("another network is refused")
	}
	// Wrong codes weigh more: thirty are all that an address has.
	guesser := netip.MustParseAddr("192.0.2.5")
	for range 29 {
		s.Miss(t.Context(), guesser)
	}
	if s.Ask(t.Context(), guesser) {
		t.Error("refused after 29 wrong codes")
	}
	s.Miss(t.Context(), guesser)
	if !s.Ask(t.Context(), guesser) {
		t.Error("let in after 30 wrong codes")
	}
	for range 1000 {
		if s.Ask(t.Context(), netip.MustParseAddr("127.0.0.1")) {
			t.Fatal("this host is counted")
		}
	}
}
