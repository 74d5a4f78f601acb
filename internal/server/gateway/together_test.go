package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// facts are all that the store holds.
func (m *memory) facts() string {
	defer m.lock()()
	return fmt.Sprint(m.people, m.signIns, m.sessions, m.grants, m.tokens, m.once, m.events)
}

func (m *memory) set(mute bool, again int) {
	defer m.lock()()
	m.mute, m.again = mute, again
}

// TestChangeAndTrailAreOne: the web mail is opened and closed together with the line of the
// audit trail, or not at all; the code of an opening that failed is good once more.
func TestChangeAndTrailAreOne(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/") // what this browser had before ends with the next opening
	s.get("/")
	w := httptest.NewRecorder()
	jar := maps.Clone(s.jar)
	delete(s.jar, "letterlock-mail")
	to := s.get("/").Header.Get("Location")
	for name := range s.jar {
		jar[name] = s.jar[name]
	}
	s.jar = jar
	b.pages.ServeHTTP(w, httptest.NewRequest(http.MethodGet, to, nil))
	back, ok := strings.CutPrefix(w.Header().Get("Location"), b.gate.o.PublicURL)
	if !ok {
		t.Fatalf("the pages answer %d to %s", w.Code, w.Header().Get("Location"))
	}
	for _, c := range []struct {
		path, line     string
		status         int
		sessions, sits int
	}{
		{back, "webmail.opened", http.StatusSeeOther, 1, 1},
		{"/__letterlock/out", "webmail.closed", http.StatusOK, 0, 0},
	} {
		before, jar := b.store.facts(), maps.Clone(s.jar)
		b.store.set(true, 0)
		if resp := s.get(c.path, "Sec-Fetch-Site", "same-origin"); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s without an audit trail: %d", c.path, resp.StatusCode)
		}
		if after := b.store.facts(); after != before {
			t.Errorf("%s without an audit trail\n%s\nbecame\n%s", c.path, before, after)
		}
		s.jar = jar // after a log-out the browser has forgotten its session in any case
		b.store.set(false, 2)
		if resp := s.get(c.path, "Sec-Fetch-Site", "same-origin"); resp.StatusCode != c.status {
			t.Errorf("%s: %d", c.path, resp.StatusCode)
		}
		unlock := b.store.lock()
		events := b.store.events
		if len(b.store.sessions) != c.sessions || len(b.store.signIns) != c.sits || len(b.store.tokens) != 0 || events[len(events)-1].Kind != c.line {
			t.Errorf("%s: %d sessions, %d tokens, the trail has %+v", c.path, len(b.store.sessions), len(b.store.tokens), events)
		}
		unlock()
	}
	defer b.store.lock()()
	if n := len(b.store.events); n != 3 {
		t.Errorf("%d lines", n)
	}
}
