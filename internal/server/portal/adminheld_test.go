package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func TestAdminForgetsWhatIsHeld(t *testing.T) {
	b := newBench(t, nil)
	if body := b.get(root, "/admin").Body.String(); strings.Contains(body, "kept out") || strings.Contains(body, "/admin/held/") {
		t.Error("the page speaks of what there is none of")
	}
	b.store.held = []identity.Held{
		{Address: "cyd@example.org", External: "ext<7>", Since: b.now.Add(-time.Hour), Reason: "stole <b>paper</b>"},
		{Address: "dan@example.org", Since: b.now.Add(-2 * time.Hour)},
	}
	body := b.get(root, "/admin").Body.String()
	people, held, add := strings.Index(body, "root@example.org</a>"), strings.Index(body, "cyd@example.org</h3>"), strings.Index(body, `id="add"`)
	if people < 0 || held < people || add < held {
		t.Errorf("people at %d, held at %d, the form at %d", people, held, add)
	}
	for _, want := range []string{"22 Nov 2026, 11:00 UTC", "stole &lt;b&gt;paper&lt;/b&gt;", "ext&lt;7&gt;", `<button class="danger" aria-label="Forget what is held against dan@example.org">Forget</button>`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if body := b.get(root, "/admin?q=DAN@").Body.String(); strings.Contains(body, "cyd@") || !strings.Contains(body, "dan@example.org</h3>") {
		t.Error("a search does not find what is held by its address alone")
	}

	// Not without the page's own token, not with that of another address, and by nobody else.
	token := b.token(root, "/admin", "/admin/held/release", "dan@example.org")
	for what, form := range map[string]url.Values{
		"without a token":  {"id": {"cyd@example.org"}},
		"of another":       {"id": {"cyd@example.org"}, "token": {token}},
		"of all, it hopes": {"id": {"cyd@example.org", "dan@example.org"}, "token": {token}},
	} {
		if w := b.post(root, "/admin/held/release", form); w.Code != http.StatusForbidden {
			t.Errorf("%s: %d", what, w.Code)
		}
	}
	if w := b.post(ann, "/admin/held/release", url.Values{"id": {"dan@example.org"}, "token": {token}}); w.Code/100 == 2 || len(b.store.held) != 2 {
		t.Errorf("ann: %d, %d are held", w.Code, len(b.store.held))
	}

	w := b.send(root, "/admin", "/admin/held/release", "dan@example.org", nil)
	if w.Code != http.StatusSeeOther || len(b.store.held) != 1 || b.store.held[0].Address != "cyd@example.org" {
		t.Errorf("%d, held: %+v", w.Code, b.store.held)
	}
	if body := b.get(root, w.Header().Get("Location")).Body.String(); !strings.Contains(body, "Forgotten. Who is made") || strings.Contains(body, "dan@") {
		t.Error("the page does not say that it is done")
	}
	if w := b.post(root, "/admin/held/release", url.Values{"id": {"dan@example.org"}, "token": {token}}); w.Code != http.StatusNotFound {
		t.Errorf("once more: %d", w.Code)
	}
	if e := b.store.events; !slices.Equal(b.kinds(), []string{"hold.released"}) || e[0].Detail != "dan@example.org" || e[0].Actor != string(root) {
		t.Errorf("the trail says %+v", e)
	}
	if body := b.get(root, "/admin/audit").Body.String(); !strings.Contains(body, "Forgotten what was held against an address") {
		t.Error("the trail's page has no words for it")
	}
}

// What is held stands once, at the end of the list, and is bounded.
func TestAdminHeldPages(t *testing.T) {
	b := newBench(t, nil)
	for i := range 600 {
		id := identity.PersonID(fmt.Sprintf("p-%03d", i))
		b.store.held = append(b.store.held, identity.Held{Address: fmt.Sprintf("h%03d@example.org", i), Since: b.now})
		if i < 120 {
			b.store.people[id] = identity.Person{ID: id, Address: fmt.Sprintf("m%03d@example.org", i), Name: "Member"}
		}
	}
	for path, want := range map[string]struct {
		n   int
		cut bool
	}{
		"/admin":                          {0, false},
		"/admin?after=m099%40example.org": {50, true},
		"/admin?q=H599":                   {1, false},
		"/admin?q=h01":                    {10, false},
		"/admin?q=nobody+at+all":          {0, false},
	} {
		body := b.get(root, path).Body.String()
		if n, cut := strings.Count(body, "Forget what is held"), strings.Contains(body, "There are more. Search for more of the address."); n != want.n || cut != want.cut {
			t.Errorf("%s: %d, cut %v; want %+v", path, n, cut, want)
		}
	}
	b.store.down = true
	if w := b.get(root, "/admin"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("while the store is away: %d", w.Code)
	}
}
