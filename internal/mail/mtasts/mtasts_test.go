package mtasts

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const good = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net\r\nmax_age: 604800\r\n"

func TestParsePolicy(t *testing.T) {
	p, err := ParsePolicy([]byte(good + "mode: none\nfuture_key: x\n"))
	if err != nil || p.Mode != Enforce || !slices.Equal(p.MX, []string{"mail.example.com", "*.example.net"}) || p.MaxAge != 7*24*time.Hour {
		t.Fatalf("%+v, %v", p, err)
	}
	for host, want := range map[string]bool{
		"mail.example.com": true, "MAIL.example.com.": true, "a.example.net": true, "a.b.example.net": false, "example.net": false,
		".example.net": false, "mail.example.com.evil.test": false, "xmail.example.com": false, "": false,
	} {
		if p.Matches(host) != want {
			t.Errorf("Matches(%q) is not %v", host, want)
		}
	}
	for _, bad := range []string{
		"", "version: STSv2\nmode: enforce\nmx: a.b\nmax_age: 1\n", "mode: enforce\nversion: STSv1\nmx: a.b\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmax_age: 1\n", "version: STSv1\nmode: strict\nmx: a.b\nmax_age: 1\n", "version: STSv1\nmode: enforce\nmx: a.b\n",
		"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: -1\n", "version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 99999999999\n", "version: STSv1\nmode: enforce\nmx: a.b\nmax_age: \n",
		"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n", "version: STSv1\nmode: enforce\nmx: a.*.b\nmax_age: 1\n", "version: STSv1\nmode: enforce\nmx: a b\nmax_age: 1\n",
		"version: STSv1\nmode: enforce\nmx: 1.2.3.4/\nmax_age: 1\n", "<html>", good + strings.Repeat(" ", MaxPolicy), good + strings.Repeat("mx: a.b\n", 300),
	} {
		if p, err := ParsePolicy([]byte(bad)); !errors.Is(err, ErrPolicy) {
			t.Errorf("%.60q passes as %+v", bad, p)
		}
	}
	if p, err := ParsePolicy([]byte("version: STSv1\nmode: none\nmax_age: 9999999999\n")); err != nil || p.MaxAge != maxAge || p.Enforced() {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestParseRecord(t *testing.T) {
	for text, want := range map[string]string{
		"v=STSv1; id=20160831085700Z;": "20160831085700Z", "v=STSv1;id=1": "1", "v=STSv1 ; x=y; id=a1 ;": "a1", "v=STSv1; id=1; id=2": "1",
	} {
		if id, ok, err := ParseRecord(text); id != want || !ok || err != nil {
			t.Errorf("%q: %q, %v, %v", text, id, ok, err)
		}
	}
	for _, text := range []string{"", "v=spf1 -all", "v=STSv10; id=1", "V=STSv1; id=1"} {
		if _, ok, _ := ParseRecord(text); ok {
			t.Errorf("%q is taken for a record", text)
		}
	}
	for _, text := range []string{"v=STSv1", "v=STSv1; id=", "v=STSv1; id=a-b", "v=STSv1; id=" + strings.Repeat("1", 33)} {
		if _, ok, err := ParseRecord(text); !ok || !errors.Is(err, ErrPolicy) {
			t.Errorf("%q passes", text)
		}
	}
}

// A site is the domain's DNS and web server.
type site struct {
	txt     []string
	txtErr  error
	status  int
	kind    string
	text    string
	err     error
	asked   int
	fetched int
	now     time.Time
	said    strings.Builder
	hang    bool          // until the request is given up
	fetches chan struct{} // one is begun
}

func (s *site) TXT(_ context.Context, name string) ([]string, error) {
	s.asked++
	if name != "_mta-sts.example.com" {
		return nil, errors.New("asked for " + name)
	}
	return s.txt, s.txtErr
}

func (s *site) RoundTrip(r *http.Request) (*http.Response, error) {
	s.fetched++
	if r.URL.String() != "https://mta-sts.example.com/.well-known/mta-sts.txt" {
		return nil, errors.New("fetched " + r.URL.String())
	}
	if s.hang {
		s.fetches <- struct{}{}
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if s.err != nil {
		return nil, s.err
	}
	return &http.Response{StatusCode: s.status, Header: http.Header{"Content-Type": {s.kind}}, Body: io.NopCloser(strings.NewReader(s.text)), Request: r}, nil
}

func (s *site) cache(folder string) *Cache {
	return NewCache(Options{TXT: s.TXT, HTTP: &http.Client{Transport: s}, Folder: folder, Now: func() time.Time { return s.now }, Log: slog.New(slog.NewTextHandler(&s.said, nil))})
}

func newSite() *site {
	return &site{txt: []string{"v=spf1 -all", "v=STSv1; id=1;"}, status: 200, kind: "text/plain; charset=utf-8", text: good, now: time.Unix(1_900_000_000, 0)}
}

func wantMode(t *testing.T, c *Cache, want Mode) {
	t.Helper()
	p, err := c.Policy(t.Context(), "example.com")
	got := Mode("")
	if p != nil {
		got = p.Mode
	}
	if got != want {
		t.Fatalf("mode %q, want %q (%v)", got, want, err)
	}
}

func TestCacheKeepsWhatAnAttackerWouldHide(t *testing.T) {
	s, folder := newSite(), filepath.Join(t.TempDir(), "sts")
	c := s.cache(folder)
	wantMode(t, c, Enforce)
	wantMode(t, c, Enforce)
	if s.asked != 1 || s.fetched != 1 {
		t.Errorf("asked %d times, fetched %d times", s.asked, s.fetched)
	}
	// The record gone, DNS down, the site down: the policy stays, over a restart too.
	hour := time.Hour
	for _, spoil := range []func(){
		func() { s.txt = nil },
		func() { s.txtErr = errors.New("server misbehaving") },
		func() { s.txt, s.txtErr, s.err = []string{"v=STSv1; id=2;"}, nil, errors.New("connection refused") },
		func() { s.err, s.status = nil, 404 },
		func() { s.status, s.kind = 200, "text/html" },
		func() { s.kind, s.text = "text/plain", "version: STSv1\nmode: none\n" },
		func() { s.txt = []string{"v=STSv1; id=2;", "v=STSv1; id=3;"} },
	} {
		spoil()
		s.now = s.now.Add(hour)
		wantMode(t, c, Enforce)
		wantMode(t, s.cache(folder), Enforce)
	}
	// A new policy under a new id replaces it; without a new id nothing is fetched.
	s.txt, s.text = []string{"v=STSv1; id=2;"}, "version: STSv1\nmode: none\nmax_age: 100\n"
	s.now = s.now.Add(hour)
	wantMode(t, c, None)
	before := s.fetched
	s.now = s.now.Add(99 * time.Second)
	wantMode(t, c, None)
	if s.fetched != before {
		t.Error("fetched again without a new id")
	}
	// And at its end it ends.
	s.txt = nil
	s.now = s.now.Add(2 * time.Second)
	wantMode(t, c, "")
	wantMode(t, s.cache(folder), "")
}

// A policy whose id stays is fetched again each day, beside an attempt, and so outlives
// its first max_age; whoever keeps it from being fetched changes nothing before its end.
func TestCacheRefetches(t *testing.T) {
	day := 24 * time.Hour
	s, folder := newSite(), filepath.Join(t.TempDir(), "sts")
	// Each step is a process of its own, which asks twice and ends.
	step := func(forward time.Duration, want, then Mode, fetched int) {
		t.Helper()
		s.now = s.now.Add(forward)
		before := s.fetched
		c := s.cache(folder)
		wantMode(t, c, want)
		c.fetching.Wait()
		wantMode(t, c, then)
		c.Close()
		if got := s.fetched - before; got != fetched {
			t.Errorf("fetched %d times, want %d", got, fetched)
		}
	}
	step(0, Enforce, Enforce, 1)
	step(day-time.Minute, Enforce, Enforce, 0)
	step(time.Minute, Enforce, Enforce, 1)
	for range 8 { // max_age is a week
		step(day, Enforce, Enforce, 1)
	}
	// Faults: the kept one holds, and the administrator reads of it.
	for _, spoil := range []func(){
		func() { s.err = errors.New("connection refused") },
		func() { s.err, s.status = nil, 404 },
		func() { s.status, s.text = 200, "version: STSv1\nmode: enforce\nmax_age: 1\n" },
		func() { s.txtErr = errors.New("server misbehaving") },
	} {
		spoil()
		s.said.Reset()
		step(day, Enforce, Enforce, 1)
		if !strings.Contains(s.said.String(), "the kept one holds") {
			t.Errorf("not in the log: %q", s.said.String())
		}
	}
	// What the domain says under the same id counts too.
	s.txtErr, s.text = nil, "version: STSv1\nmode: none\nmax_age: 604800\n"
	step(day, Enforce, None, 1)
	step(0, None, None, 0)
	// No record: it runs out.
	s.txt = nil
	step(6*day, None, None, 0)
	step(day+time.Second, "", "", 0)
}

// A clock that was years ahead once, when a policy was fetched, does not keep it from being
// fetched again.
func TestCacheAfterAWrongClock(t *testing.T) {
	s, folder := newSite(), filepath.Join(t.TempDir(), "sts")
	right := s.now
	s.now = right.Add(10 * 365 * 24 * time.Hour)
	c := s.cache(folder)
	wantMode(t, c, Enforce)
	c.Close()
	s.now, s.text = right, "version: STSv1\nmode: none\nmax_age: 604800\n"
	c = s.cache(folder)
	wantMode(t, c, Enforce)
	c.fetching.Wait()
	wantMode(t, c, None)
	c.Close()
}

// Failures are not repeated with every message, and Close waits for no site that hangs.
func TestCacheRefetchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		c := s.cache("")
		wantMode(t, c, Enforce)
		s.err = errors.New("connection refused")
		s.now = s.now.Add(25 * time.Hour)
		for range 13 { // ten minutes apart, as DNS is asked
			wantMode(t, c, Enforce)
			c.fetching.Wait()
			s.now = s.now.Add(recheck)
		}
		if s.fetched != 4 {
			t.Errorf("fetched %d times in two hours, want 1 and 3", s.fetched)
		}
		s.hang, s.fetches = true, make(chan struct{}, 1)
		s.now = s.now.Add(2 * time.Hour)
		wantMode(t, c, Enforce)
		<-s.fetches
		begun := time.Now()
		if c.Close(); time.Since(begun) != closeTime {
			t.Errorf("closed after %v", time.Since(begun))
		}
		wantMode(t, c, Enforce)
	})
}

func TestCacheWithoutPolicy(t *testing.T) {
	for name, spoil := range map[string]func(*site){
		"no record":    func(s *site) { s.txt = nil },
		"bad record":   func(s *site) { s.txt = []string{"v=STSv1; id=-"} },
		"redirect":     func(s *site) { s.status = 302 },
		"another type": func(s *site) { s.kind = "text/html" },
		"too long":     func(s *site) { s.text += strings.Repeat("\n", MaxPolicy) },
		"site down":    func(s *site) { s.err = errors.New("connection refused") },
	} {
		s := newSite()
		spoil(s)
		c := s.cache("")
		p, err := c.Policy(t.Context(), "example.com")
		if p != nil || (err == nil) != (name == "no record") {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		// RFC 8461 section 3.3: not again for some minutes.
		asked, fetched := s.asked, s.fetched
		if _, _ = c.Policy(t.Context(), "example.com"); s.asked != asked || s.fetched != fetched {
			t.Errorf("%s: asked again at once", name)
		}
	}
}

func TestCacheFileOfAnotherDomain(t *testing.T) {
	s, folder := newSite(), filepath.Join(t.TempDir(), "sts")
	c := s.cache(folder)
	wantMode(t, c, Enforce)
	if err := os.Rename(c.file("example.com"), c.file("other.test")); err != nil {
		t.Fatal(err)
	}
	e := &entry{}
	c.load("other.test", e)
	if e.policy != nil {
		t.Error("a policy is taken for another domain's")
	}
	for _, name := range []string{"../../etc/passwd", strings.Repeat("x", 5000)} {
		if dir := filepath.Dir(c.file(name)); dir != folder {
			t.Errorf("%q is kept in %s", name, dir)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	for _, seed := range []string{good, "version: STSv1\nmode: none\nmax_age: 0\n", "version:STSv1\nmode:testing\nmx:*.a\nmax_age:1\n", ":", "version: STSv1\nmx: *.\n"} {
		f.Add([]byte(seed), "a.example.net")
	}
	f.Fuzz(func(t *testing.T, text []byte, host string) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if p.MaxAge < 0 || p.MaxAge > maxAge || len(p.MX) > maxHosts || p.Mode != None && len(p.MX) == 0 {
			t.Fatalf("%q: %+v", text, p)
		}
		for _, mx := range p.MX {
			name, wild := strings.CutPrefix(mx, "*.")
			if strings.ContainsAny(name, "*/\\ \r\n") || p.Matches(name) && wild && !slices.Contains(p.MX, name) && !strings.Contains(strings.Join(p.MX, " "), "*."+name[strings.Index(name, ".")+1:]) {
				t.Fatalf("%q: mx %q", text, mx)
			}
		}
		if p.Matches(host) && !slices.ContainsFunc(p.MX, func(mx string) bool {
			return strings.EqualFold(strings.TrimSuffix(host, "."), mx) || strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), strings.TrimPrefix(mx, "*"))
		}) {
			t.Fatalf("%q matches %v", host, p.MX)
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, seed := range []string{"v=STSv1; id=1;", "v=STSv1", "v=STSv1;;;id==", "v=STSv1 id=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, ok, err := ParseRecord(text)
		if id != "" && (!ok || !strings.Contains(text, id)) || ok && err == nil && (id == "" || len(id) > maxIDChars) {
			t.Fatalf("%q: %q, %v, %v", text, id, ok, err)
		}
	})
}
