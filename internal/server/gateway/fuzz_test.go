package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// FuzzBegin: whatever the query, "back" stays a path here and state is one digest.
func FuzzBegin(f *testing.F) {
	f.Add("state=" + commitment("x") + "&back=%2F")
	f.Fuzz(func(t *testing.T, raw string) {
		commit, back, ok := readBegin(raw)
		if !ok {
			return
		}
		if len(commit) != secretLength || !web.LocalPath(back) || strings.HasPrefix(back, ownPath) {
			t.Fatalf("%q: %q, %q", raw, commit, back)
		}
	})
}

// FuzzPath: no spelling of a blocked path is let through, and what is refused for its
// form never reaches a rule.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/installer/x", "//installer", "/%69nstaller", "/installer;a/b", "/a/../installer"} {
		f.Add(seed)
	}
	r, err := newRules([]Rule{{Path: "/installer"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.URL = u
		if !soundRequest(request) {
			return
		}
		// What a lenient server serves: no empty segments, no parameters, no case.
		var plain []string
		for segment := range strings.SplitSeq(strings.ToLower(u.Path), "/") {
			if segment, _, _ = strings.Cut(segment, ";"); segment != "" {
				plain = append(plain, segment)
			}
		}
		if len(plain) > 0 && plain[0] == "installer" && !r.paths(u.Path) {
			t.Fatalf("%q is let through", path)
		}
	})
}

// A cookie that somebody invented is looked up at most, and one of another form not even.
func TestInventedCookies(t *testing.T) {
	b := newBench(t, nil)
	s := b.surfer()
	for value, asked := range map[string]int{"x": 0, strings.Repeat("A", 43): 1, strings.Repeat("A", 44): 0} {
		b.store.asked = 0
		s.jar["letterlock-mail"] = value
		if resp := s.get("/"); resp.StatusCode != http.StatusSeeOther || b.store.asked != asked {
			t.Errorf("%s: %d, the store was asked %d times", value, resp.StatusCode, b.store.asked)
		}
	}
}

// Many browsers: memory is bounded, and who was forgotten is asked for again.
func TestThin(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	s.echoed(s.get("/"))
	all := b.gate.sessions
	var mine *entry
	for _, e := range all.by {
		mine = e
	}
	for i := range maxEntries + 10 {
		e := &entry{id: [32]byte{byte(i), byte(i >> 8), byte(i >> 16), 1}}
		e.state.Store(&known{asked: b.clock().Add(-time.Duration(i%2) * time.Hour)})
		all.keep(e)
	}
	if n := len(all.by); n > maxEntries {
		t.Errorf("%d entries", n)
	}
	all.drop(mine.id)
	s.echoed(s.get("/"))
}
