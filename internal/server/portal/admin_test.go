package portal

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func TestAdminAddsAndDisables(t *testing.T) {
	b := newBench(t, nil)
	w := b.send(root, "/admin", "/admin/person/add", "", url.Values{"address": {" Eve@Example.NET "}, "name": {"Eve"}})
	if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/admin/person/") {
		t.Fatalf("%d %s", w.Code, w.Header().Get("Location"))
	}
	eve, err := b.store.PersonByAddress(t.Context(), "eve@example.net")
	if err != nil || eve.Name != "Eve" || eve.Admin || len(b.store.addresses["eve@example.net"].Owners) != 1 {
		t.Errorf("%+v, %v", eve, err)
	}
	page := "/admin/person/p-bob"
	b.store.credentials = []identity.Credential{{ID: "c-bob", Person: bob, Name: "phone"}}
	if w := b.send(root, page, "/admin/person/revoke", "p-bob c-bob", nil); w.Code != http.StatusSeeOther || b.store.credentials[0].Revoked.IsZero() {
		t.Errorf("bob's password goes on: %d", w.Code)
	}
	if w := b.send(root, page, "/admin/person/disable", "p-bob", url.Values{"reason": {" "}}); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), `id="reason-error"`) {
		t.Errorf("disabled without a reason: %d", w.Code)
	}
	if w := b.send(root, page, "/admin/person/end-sessions", "p-bob", nil); w.Code != http.StatusSeeOther {
		t.Errorf("sessions: %d", w.Code)
	}
	if w := b.get(bob, "/"); w.Code != http.StatusSeeOther {
		t.Errorf("bob's browser is signed in: %d", w.Code)
	}
	if w := b.send(root, page, "/admin/person/disable", "p-bob", url.Values{"reason": {"left"}}); w.Code != http.StatusSeeOther {
		t.Errorf("%d", w.Code)
	}
	if p := b.store.people[bob]; p.Disabled.IsZero() || p.Reason != "left" || !slices.Contains(b.push.told, "bob@example.org") {
		t.Errorf("%+v, told %v", p, b.push.told)
	}
	if body := b.get(root, page).Body.String(); !strings.Contains(body, "Not confirmed at mx1") {
		t.Error("the page does not say where it waits")
	}
	if w := b.send(root, page, "/admin/person/enable", "p-bob", nil); w.Code != http.StatusSeeOther || !b.store.people[bob].Disabled.IsZero() {
		t.Errorf("enable: %d", w.Code)
	}
	want := []string{"person.added", "credential.revoked", "session.ended", "person.disabled", "person.enabled"}
	if got := b.kinds(); !slices.Equal(got, want) {
		t.Errorf("the trail says %v", got)
	}
	for _, e := range b.store.events[1:] {
		if e.Person != bob || e.Actor != string(root) {
			t.Errorf("the trail says %+v", e)
		}
	}
}

// The last administrator cannot lock the door behind themselves.
func TestNobodyDisablesThemselves(t *testing.T) {
	b := newBench(t, nil)
	if strings.Contains(b.get(root, "/admin/person/p-root").Body.String(), `action="/admin/person/disable"`) {
		t.Error("the page offers it")
	}
	// bob's page has a token for bob; a made-up id has none, so the action is asked itself.
	v := &visit{Portal: &Portal{Options{Store: b.store}}, person: b.store.people[root], form: url.Values{"id": {string(root)}, "reason": {"x"}}}
	if err := disablePerson(v); err == nil || !b.store.people[root].Disabled.IsZero() {
		t.Errorf("disabled: %v", err)
	}
}

func TestAdminFormFaults(t *testing.T) {
	for _, c := range []struct {
		page, action string
		form         url.Values
		field, says  string
		kept         string
	}{
		{"/admin", "/admin/person/add", url.Values{"address": {"eve"}, "name": {"Eve Kept"}}, "address", "Write an address", "Eve Kept"},
		{"/admin", "/admin/person/add", url.Values{"address": {"eve@elsewhere.org"}}, "address", "not served here", "eve@elsewhere.org"},
		{"/admin", "/admin/person/add", url.Values{"address": {"ann@example.org"}}, "address", "somebody&#39;s already", "ann@example.org"},
		{"/admin", "/admin/person/add", url.Values{"address": {"e@example.org"}, "name": {strings.Repeat("x", 101)}}, "name", "at most 100", "e@example.org"},
		{"/admin", "/admin/person/add", url.Values{"address": {"e@example.org"}, "name": {"a\u202eb"}}, "name", "can be seen", "e@example.org"},
		{"/admin/addresses", "/admin/addresses/alias", url.Values{"alias-address": {"x@example.org"}, "alias-targets": {"no"}}, "alias-targets", "is no address", "x@example.org"},
		{"/admin/addresses", "/admin/addresses/alias", url.Values{"alias-address": {"x@example.org"}, "alias-targets": {" "}}, "alias-targets", "at least one", "x@example.org"},
		{"/admin/addresses", "/admin/addresses/alias", url.Values{"alias-address": {"x@example.org"}, "alias-targets": {"x@example.org"}}, "alias-targets", "to itself", "x@example.org"},
		{"/admin/addresses", "/admin/addresses/alias", url.Values{"alias-address": {"ann@example.org"}, "alias-targets": {"bob@example.org"}}, "alias-address", "own address", "bob@example.org"},
		{"/admin/addresses", "/admin/addresses/alias", url.Values{"alias-address": {"@elsewhere.org"}, "alias-targets": {"bob@example.org"}}, "alias-address", "not served here", "bob@example.org"},
		{"/admin/addresses", "/admin/addresses/role", url.Values{"role-address": {"sales@example.org"}, "role-person": {"nobody@example.org"}, "role": {"send"}}, "role-person", "Nobody here", `value="send" checked`},
		{"/admin/addresses", "/admin/addresses/role", url.Values{"role-address": {"sales@example.org"}, "role-person": {"ann@example.org"}, "role": {"own"}}, "role", "Choose from", "sales@example.org"},
		{"/admin/addresses", "/admin/addresses/role", url.Values{"role-address": {"ann@example.org"}, "role-person": {"ann@example.org"}}, "role-address", "stays theirs", "ann@example.org"},
		{"/admin/bans", "/admin/bans/add", url.Values{"network": {"here"}, "days": {"7"}, "reason": {"why kept"}}, "network", "is no network", "why kept"},
		{"/admin/bans", "/admin/bans/add", url.Values{"network": {"192.0.2.1 192.0.2.2"}, "days": {"7"}}, "network", "one network", `<option value="7" selected>`},
		{"/admin/bans", "/admin/bans/add", url.Values{"network": {"0.0.0.0/0"}, "days": {"7"}}, "network", "everywhere", ""},
		{"/admin/bans", "/admin/bans/add", url.Values{"network": {"198.51.100.0/24"}, "days": {"7"}}, "network", "your own address", ""},
		{"/admin/bans", "/admin/bans/add", url.Values{"network": {"192.0.2.1"}, "days": {"3"}}, "days", "Choose one", "192.0.2.1"},
		{"/admin/bans", "/admin/bans/add", url.Values{"network": {"192.0.2.1"}, "days": {"1"}, "reason": {strings.Repeat("x", 201)}}, "reason", "at most 200", "192.0.2.1"},
	} {
		t.Run(c.action+" "+c.field+" "+c.says, func(t *testing.T) {
			b := newBench(t, nil)
			w := b.send(root, c.page, c.action, "", c.form)
			body := w.Body.String()
			at := strings.Index(body, `id="`+c.field+`-error"`)
			if w.Code/100 != 4 || at < 0 || !strings.Contains(body[at:min(at+300, len(body))], c.says) || !strings.Contains(body, c.kept) {
				t.Errorf("%d, fault at %d, kept %v", w.Code, at, strings.Contains(body, c.kept))
			}
			if len(b.store.events) > 0 || len(b.store.bans) > 0 {
				t.Error("something was done")
			}
		})
	}
}

func TestAdminAddresses(t *testing.T) {
	b := newBench(t, nil)
	page := "/admin/addresses"
	b.send(root, page, "/admin/addresses/alias", "", url.Values{"alias-address": {"Info@example.org"}, "alias-targets": {"ann@example.org\nx@elsewhere.org"}})
	b.send(root, page, "/admin/addresses/role", "", url.Values{"role-address": {"info@example.org"}, "role-person": {"ann@example.org"}, "role": {"send"}})
	a := b.store.addresses["info@example.org"]
	if !slices.Equal(a.Targets, []string{"ann@example.org", "x@elsewhere.org"}) || len(a.Owners) != 1 || !a.Owners[0].Has(identity.RoleSend) || a.Owners[0].Has(identity.RoleLogin) {
		t.Errorf("%+v", a)
	}
	b.push.told = nil
	b.send(root, page, "/admin/addresses/role", "", url.Values{"role-address": {"info@example.org"}, "role-person": {"ann@example.org"}})
	if a := b.store.addresses["info@example.org"]; len(a.Owners) != 0 || !slices.Contains(b.push.told, "info@example.org") {
		t.Errorf("%+v, told %v", a, b.push.told)
	}
	b.send(root, page, "/admin/addresses/remove", "info@example.org", nil)
	if _, there := b.store.addresses["info@example.org"]; there {
		t.Error("it is there still")
	}
	if strings.Contains(b.get(root, page).Body.String(), `aria-label="Remove ann@example.org"`) {
		t.Error("a person's own address can be removed")
	}
}

func TestAdminBans(t *testing.T) {
	b := newBench(t, nil)
	b.send(root, "/admin/bans", "/admin/bans/add", "", url.Values{"network": {"192.0.2.0/24"}, "days": {"7"}, "reason": {"guessing"}})
	b.send(root, "/admin/bans", "/admin/bans/add", "", url.Values{"network": {"198.51.100.0/24"}, "days": {"0"}, "list": {"allow"}})
	if len(b.store.bans) != 2 || !b.store.bans[0].Until.Equal(b.now.Add(7*24*time.Hour)) || b.store.bans[0].Allow || !b.store.bans[1].Allow || !b.store.bans[1].Until.IsZero() {
		t.Fatalf("%+v", b.store.bans)
	}
	b.send(root, "/admin/bans", "/admin/bans/remove", "192.0.2.0/24", nil)
	if len(b.store.bans) != 1 || b.store.bans[0].Network != netip.MustParsePrefix("198.51.100.0/24") {
		t.Errorf("%+v", b.store.bans)
	}
	if got := b.kinds(); !slices.Equal(got, []string{"ban.added", "ban.allowed", "ban.removed"}) {
		t.Errorf("the trail says %v", got)
	}
}

func TestSearchAndPages(t *testing.T) {
	b := newBench(t, nil)
	for i := range 120 {
		id := identity.PersonID(fmt.Sprintf("p-%03d", i))
		b.store.people[id] = identity.Person{ID: id, Address: fmt.Sprintf("m%03d@example.org", i), Name: "Member"}
	}
	for path, want := range map[string]struct {
		n    int
		says string
	}{
		"/admin":                          {50, "Next page"},
		"/admin?after=m099%40example.org": {21, ""},
		"/admin?q=M007":                   {1, ""},
		"/admin?q=member":                 {50, "There are more"},
		"/admin?q=nobody+at+all":          {0, "Nobody."},
	} {
		body := b.get(root, path).Body.String()
		if got := strings.Count(body, `<a href="/admin/person/`); got != want.n || !strings.Contains(body, want.says) {
			t.Errorf("%s: %d persons, want %d and %q", path, got, want.n, want.says)
		}
	}
	for i := range 70 {
		b.store.events = append(b.store.events, identity.Event{ID: fmt.Sprint(i), Kind: "signin.ok", Person: ann, At: b.now.Add(time.Duration(i) * time.Minute), Detail: fmt.Sprintf("number %d.", i)})
	}
	first := b.get(ann, "/activity").Body.String()
	_, rest, ok := strings.Cut(first, `<a class="button" href="/activity?`)
	if !ok || strings.Contains(first, "number 19.") || !strings.Contains(first, "number 20.") {
		t.Fatal("the first page is not the newest fifty with a way on")
	}
	query, _, _ := strings.Cut(rest, `"`)
	second := b.get(ann, "/activity?"+strings.ReplaceAll(query, "&amp;", "&")).Body.String()
	if !strings.Contains(second, "number 19.") || strings.Contains(second, "number 20.") || strings.Contains(second, "Older") {
		t.Error("the second page is not the rest")
	}
	if strings.Contains(b.get(bob, "/activity").Body.String(), "number 1") {
		t.Error("bob reads ann's")
	}
	if w := b.get(ann, "/activity?before=-5&id=x"); w.Code != http.StatusOK {
		t.Errorf("a place that is none: %d", w.Code)
	}
}

// A list that could not be read refuses nobody, and an administrator sees that.
func TestHealthShowsLists(t *testing.T) {
	b := newBench(t, nil)
	body := b.get(root, "/admin/health").Body.String()
	for _, want := range []string{"/etc/letterlock/drop.txt <span class=\"tag\">in force", " 2 entries. Lines left out: 3.",
		"/etc/letterlock/gone.txt <span class=\"tag\">not read", "It refuses nobody.", "no &lt;such&gt; file"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q:\n%s", want, body)
		}
	}
}
