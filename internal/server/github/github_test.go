package github_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/github"
)

// answer is a GitHub that always says the same.
type answer struct {
	status int
	header http.Header
	body   string
	asked  []*http.Request
	err    error
}

func (a *answer) RoundTrip(r *http.Request) (*http.Response, error) {
	a.asked = append(a.asked, r)
	if a.err != nil {
		return nil, a.err
	}
	header := a.header
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

func client(a *answer) *github.Client {
	return &github.Client{
		API: "https://api.test", HTTP: &http.Client{Transport: a}, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }, Limit: 1000, Pages: 3,
	}
}

func head(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct{ web, api, wantWeb, wantAPI string }{
		{"", "", "https://github.com", "https://api.github.com"},
		{"https://github.com/", "", "https://github.com", "https://api.github.com"},
		{"https://git.example.org/", "", "https://git.example.org", "https://git.example.org/api/v3"},
		{"https://git.example.org", "https://api.example.org", "https://git.example.org", "https://api.example.org"},
	} {
		if web, api := github.Addresses(c.web, c.api); web != c.wantWeb || api != c.wantAPI {
			t.Errorf("Addresses(%q, %q) = %q, %q", c.web, c.api, web, api)
		}
	}
}

// TestRefusals: a no, a "later" and an outage are three things.
func TestRefusals(t *testing.T) {
	const denied, limited, failed, other = "denied", "limited", "failed", "other"
	for name, c := range map[string]struct {
		answer answer
		want   string
		after  time.Duration
	}{
		"not found":               {answer{status: 404, body: "{}"}, denied, 0},
		"forbidden":               {answer{status: 403, body: `{"message":"Must have admin rights"}`, header: head("X-RateLimit-Remaining", "12")}, denied, 0},
		"primary limit":           {answer{status: 403, body: "{}", header: head("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1800000090")}, limited, 90 * time.Second},
		"limit reset in the past": {answer{status: 403, body: "{}", header: head("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1")}, limited, time.Second},
		"limit reset in a year":   {answer{status: 429, body: "{}", header: head("X-RateLimit-Reset", "1831536000")}, limited, time.Hour},
		"secondary limit":         {answer{status: 403, body: "{}", header: head("Retry-After", "30")}, limited, 30 * time.Second},
		"limit said in words":     {answer{status: 403, body: `{"message":"You have exceeded a secondary rate limit"}`}, limited, time.Minute},
		"too many":                {answer{status: 429, body: "{}", header: head("Retry-After", "soon")}, limited, time.Minute},
		"unauthorized":            {answer{status: 401, body: "{}"}, failed, 0},
		"broken":                  {answer{status: 502, body: "<html>"}, failed, 0},
		"moved":                   {answer{status: 304, body: ""}, failed, 0},
		"no JSON":                 {answer{status: 200, body: "<html>"}, other, 0},
		"too long":                {answer{status: 200, body: `"` + strings.Repeat("x", 1000) + `"`}, other, 0},
		"nobody there":            {answer{err: io.ErrUnexpectedEOF}, other, 0},
		"too long a refusal":      {answer{status: 404, body: strings.Repeat("x", 1001)}, other, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var into any
			_, err := client(&c.answer).Call(t.Context(), http.MethodGet, "/user?x=1", github.Bearer(secret.New("tok-en")), nil, &into)
			var d *github.Denied
			var l *github.Limited
			var f *github.Failed
			got := other
			switch {
			case err == nil:
				got = "no error"
			case errors.As(err, &d):
				got = denied
			case errors.As(err, &l):
				got = limited
				if l.After != c.after {
					t.Errorf("after %v, want %v", l.After, c.after)
				}
			case errors.As(err, &f):
				got = failed
			}
			if got != c.want {
				t.Errorf("%v is %s, want %s", err, got, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "tok-en") || strings.Contains(err.Error(), "api.test") || !strings.HasPrefix(err.Error(), "/user")) {
				t.Errorf("the error says %q", err)
			}
		})
	}
}

// TestRequest: what GitHub wants to see of a request.
func TestRequest(t *testing.T) {
	a := &answer{status: 204}
	if _, err := client(a).Call(t.Context(), http.MethodDelete, "/applications/app/token", github.Basic("app", secret.New("s3")), []byte(`{}`), nil); err != nil {
		t.Fatal(err)
	}
	r := a.asked[0]
	id, password, ok := r.BasicAuth()
	if !ok || id != "app" || password != "s3" || r.Header.Get("User-Agent") == "" || r.Header.Get("Accept") != "application/vnd.github+json" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", r.Header)
	}
}

// TestList follows pages until the list ends, somebody has enough, or it is too long; and
// never the address that an answer names.
func TestList(t *testing.T) {
	next := head("Link", `<https://elsewhere.test/?page=2>; rel="next", <https://elsewhere.test/?page=9>; rel="last"`)
	for name, c := range map[string]struct {
		header http.Header
		enough bool
		pages  int
		fails  bool
	}{
		"one page":      {nil, false, 1, false},
		"last page":     {head("Link", `<https://api.test/?page=1>; rel="prev"`), false, 1, false},
		"enough":        {next, true, 1, false},
		"without end":   {next, false, 3, true},
		"unquoted next": {head("Link", `<x>; rel=next`), false, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			a, seen := &answer{status: 200, body: `[1,2]`, header: c.header}, 0
			err := github.List(t.Context(), client(a), github.Bearer(secret.New("t")), "/list", func(page []int) bool {
				seen += len(page)
				return !c.enough
			})
			if len(a.asked) != c.pages || seen != 2*c.pages || (err != nil) != c.fails {
				t.Errorf("%d pages, %d seen, %v", len(a.asked), seen, err)
			}
			for _, r := range a.asked {
				if r.URL.Host != "api.test" {
					t.Errorf("asked %s", r.URL)
				}
			}
		})
	}
}

// FuzzCall: whatever comes, an answer that is not 2xx is an error, a limit is an hour at
// most, and a list ends.
func FuzzCall(f *testing.F) {
	f.Add(200, `[{"id":1}]`, `<https://x>; rel="next"`, "1", "0")
	f.Add(403, `rate limit`, `<,>;rel="prev next"`, "", "99999999999999999999")
	f.Add(429, `{}`, `rel=next;`, "-1", "-5")
	f.Add(404, ``, `<`, "soon", "")
	f.Fuzz(func(t *testing.T, status int, body, link, after, reset string) {
		if status < 100 || status > 999 {
			return
		}
		a := &answer{status: status, body: body, header: http.Header{"Link": {link}, "Retry-After": {after}, "X-Ratelimit-Reset": {reset}}}
		err := github.List(t.Context(), client(a), github.Bearer(secret.New("t")), "/list", func([]any) bool { return true })
		if err == nil && (status/100 != 2 || len(body) > 1000) {
			t.Fatalf("%d of %d bytes is no error", status, len(body))
		}
		var l *github.Limited
		if errors.As(err, &l) && (l.After < time.Second || l.After > time.Hour) {
			t.Fatalf("after %v", l.After)
		}
		if len(a.asked) > 3 {
			t.Fatalf("%d calls", len(a.asked))
		}
	})
}
