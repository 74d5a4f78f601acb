//go:build lab

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// harmless runs `token` at a fault: one clear line and a hint, exit 75, nothing on
// standard output, the grant file as it was to the byte.
func (r *rotation) harmless(t *testing.T, says, hint string) {
	t.Helper()
	file := r.file()
	began := time.Now()
	got := r.token()
	took := time.Since(began)
	lines := strings.Split(strings.TrimSuffix(got.stderr, "\n"), "\n")
	if got.code != 75 || got.stdout != "" || len(lines) != 2 || !strings.HasPrefix(lines[0], "letterlock: ") ||
		!strings.Contains(lines[0], says) || !strings.HasPrefix(lines[1], "letterlock: hint: ") || !strings.Contains(lines[1], hint) || len(lines[0]) > 400 {
		t.Errorf("want exit 75 and two lines with %q and %q: %v", says, hint, got)
	}
	if took > patience/2 { // a provider has half a minute
		t.Errorf("it took %v", took)
	}
	if r.file() != file {
		t.Error("the grant file was changed")
	}
	t.Logf("%v: %s", took.Round(time.Millisecond), strings.Join(lines, " | "))
}

// works wants a token, by one refresh.
func (r *rotation) works(t *testing.T) {
	t.Helper()
	count := r.refreshes()
	if got := r.token(); got.code != 0 || len(got.stdout) < 20 || r.refreshes() != count+1 {
		t.Errorf("afterwards: %d refreshes, %v", r.refreshes()-count, got)
	}
}

// Whatever is answered instead of the provider, nothing is lost.
func TestRefreshFaultsOfTheProvider(t *testing.T) {
	json := http.Header{"Content-Type": {"application/json"}}
	elsewhere := http.Header{"Location": {"http://127.0.0.1:9/token"}}
	tests := []struct {
		name, says string
		fault      lab.Fault
	}{
		{"500", "500 Internal Server Error", lab.Fault{Status: 500, Body: "oops"}},
		{"500 with an error that would be final", "500", lab.Fault{Status: 500, Header: json, Body: `{"error":"invalid_grant"}`}},
		{"503", "503", lab.Fault{Status: 503, Header: http.Header{"Retry-After": {"120"}}}},
		{"429", "429", lab.Fault{Status: 429}},
		{"404 of a captive portal", "404", lab.Fault{Status: 404, Body: "<html>"}},
		{"200 of a captive portal", "not JSON", lab.Fault{Status: 200, Header: http.Header{"Content-Type": {"text/html"}}, Body: "<html>Sign in to the hotel's wifi"}},
		{"garbage", "not JSON", lab.Fault{Status: 200, Header: json, Body: "\x00\xff\x1b[2J{{{"}},
		{"garbage in an error", "?[2J", lab.Fault{Status: 400, Header: json, Body: `{"error":"slow_down","error_description":"\u001b[2J\nletterlock: hint: rm -rf"}`}},
		{"nothing in the answer", "empty answer", lab.Fault{Status: 200, Header: json}},
		{"no token in the answer", "no access_token", lab.Fault{Status: 200, Header: json, Body: `{"token_type":"Bearer"}`}},
		{"half an answer", "not JSON", lab.Fault{Status: 200, Header: json, Body: `{"access_token":"abc`}},
		{"a gigabyte", "more than 1048576 bytes", lab.Fault{Status: 200, Header: json, Body: `{"access_token":"`, Flood: 1 << 30}},
		{"a gigabyte of error", "more than 1048576 bytes", lab.Fault{Status: 500, Flood: 1 << 30}},
		{"redirect 302", "redirect", lab.Fault{Status: 302, Header: elsewhere}},
		{"redirect 307, which would repeat the form", "redirect", lab.Fault{Status: 307, Header: elsewhere}},
		{"redirect 308", "redirect", lab.Fault{Status: 308, Header: elsewhere}},
		{"reset", "reset", lab.Fault{Reset: true}},
	}
	r := newRotation(t, rotationOptions{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			r.expire()
			test.fault.Path = "/token"
			r.fault.Set(test.fault)
			count := r.fault.Requests("/token")
			r.harmless(t, test.says, "try again")
			if n := r.fault.Requests("/token") - count; n != 1 {
				t.Errorf("%d requests", n)
			}
			r.fault.Clear()
			r.works(t)
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		r.t = t
		r.expire()
		r.fault.Close()
		r.harmless(t, "connection refused", "try again")
		if err := r.fault.Open(); err != nil {
			t.Fatal(err)
		}
		r.works(t)
	})
}

// The answer is lost or breaks off after the provider has acted: nothing we could know.
// The grant file stays, and the next run names the cause.
func TestRefreshAnswerIsLost(t *testing.T) {
	r := newRotation(t, rotationOptions{})
	for name, test := range map[string]struct {
		says  string
		fault lab.Fault
	}{
		"lost":       {"reset", lab.Fault{Path: "/token", LoseAnswer: true}},
		"broken off": {"reset", lab.Fault{Path: "/token", DropAfter: 40}},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.expire()
			r.fault.Set(test.fault)
			r.harmless(t, test.says, "try again")
			r.fault.Clear()
			if next := r.token(); next.code != 77 || next.stdout != "" || !strings.Contains(next.stderr, "was never stored") {
				t.Errorf("the next run: %v", next)
			}
			r.login()
			r.expire()
			r.works(t)
		})
	}
}

// A provider that takes the request and says nothing, or drips, is given up on.
func TestRefreshAtASilentProvider(t *testing.T) {
	tests := map[string]func(http.ResponseWriter, *http.Request){
		"nothing": func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() },
		"drips": func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				if _, err := fmt.Fprint(w, " "); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-tick.C:
				case <-req.Context().Done():
					return
				}
			}
		},
	}
	for name, silent := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait
			var mute atomic.Bool
			r := newRotation(t, rotationOptions{front: func(fault *lab.HTTPFault) string {
				front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if mute.Load() && strings.HasSuffix(req.URL.Path, "/token") {
						_ = req.ParseForm() // the server notices a client that has gone only after the body
						silent(w, req)
						return
					}
					fault.ServeHTTP(w, req)
				}))
				t.Cleanup(front.Close)
				return front.URL
			}})
			r.expire()
			mute.Store(true)
			r.harmless(t, "the server gave no complete answer in time", "try again")
			mute.Store(false)
			r.works(t)
		})
	}
}

// A certificate that nobody vouches for, or of another host, gets no refresh token.
func TestRefreshWithoutTrust(t *testing.T) {
	ca, other := lab.RunCA(t), lab.RunCA(t)
	r := newRotation(t, rotationOptions{ca: ca})
	r.expire()
	count := r.fault.Requests("/token")
	r.home.write("ca.pem", read(t, other.File))
	r.harmless(t, "certificate signed by unknown authority", "ca_file")
	if n := r.fault.Requests("/token") - count; n != 0 {
		t.Errorf("%d requests", n)
	}
	r.home.write("ca.pem", read(t, ca.File))
	r.works(t)
}

// The clock was put back: a grant from the future. A token that was issued after now
// is not believed, and renewed once; a small correction of the clock changes nothing.
func TestRefreshAfterTheClockWasPutBack(t *testing.T) {
	r := newRotation(t, rotationOptions{})
	for _, test := range []struct {
		name           string
		issued, expiry time.Duration
		refreshes      int
	}{
		{"by two hours", 2 * time.Hour, 3 * time.Hour, 1},
		{"by fifty years", 50 * 365 * 24 * time.Hour, 50*365*24*time.Hour + time.Hour, 1},
		{"by half a minute", 30 * time.Second, time.Hour, 0},
		{"put forward by a day", -24 * time.Hour, -23 * time.Hour, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			grant := r.age(test.issued, test.expiry)
			count := r.refreshes()
			first, second := r.token(), r.token()
			if first.code != 0 || first.stdout != second.stdout || r.refreshes()-count != test.refreshes {
				t.Errorf("%d refreshes: %v, then %v", r.refreshes()-count, first, second)
			}
			for _, access := range grant.Access {
				if kept := strings.TrimSpace(first.stdout) == access.Token.Reveal(); kept != (test.refreshes == 0) {
					t.Errorf("the token is the old one: %t", kept)
				}
			}
		})
	}
	t.Run("with files from the future", func(t *testing.T) {
		r.t = t
		r.expire()
		future := time.Now().Add(48 * time.Hour)
		err := filepath.WalkDir(r.state, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chtimes(path, future, future)
		})
		if err != nil {
			t.Fatal(err)
		}
		r.works(t)
	})
}
