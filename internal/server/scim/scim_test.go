package scim_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/scim"
)

const (
	token = "0123456789abcdef0123456789abcdef"
	base  = "https://id.example.org/scim/v2"
)

// A desk is the handler on a real database.
type desk struct {
	t  *testing.T
	db *database.DB
	h  http.Handler
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "db"), database.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	h, err := scim.New(options(db))
	if err != nil {
		t.Fatal(err)
	}
	return &desk{t, db, h}
}

func options(store scim.Store) scim.Options {
	return scim.Options{Store: store, Domains: []string{"example.org"}, Token: secret.New(token), Base: base, Now: time.Now, Random: rand.Reader, Log: slog.New(slog.DiscardHandler)}
}

// An answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	text   string
	json   map[string]any
}

func (d *desk) ask(method, path, body string, header ...string) answer {
	d.t.Helper()
	r := httptest.NewRequestWithContext(d.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/scim+json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	a := answer{t: d.t, status: w.Code, header: w.Header(), text: w.Body.String()}
	if a.text != "" {
		if err := json.Unmarshal(w.Body.Bytes(), &a.json); err != nil {
			d.t.Fatalf("%s %s: %v in %q", method, path, err, a.text)
		}
		if got := a.header.Get("Content-Type"); got != "application/scim+json" {
			d.t.Errorf("%s %s: %s", method, path, got)
		}
	}
	return a
}

func (a answer) want(status int, parts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.text)
	}
	for _, part := range parts {
		if !strings.Contains(a.text, part) {
			a.t.Errorf("no %s in %s", part, a.text)
		}
	}
	return a
}

func user(name, more string) string {
	return fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":%q%s}`, name, more)
}

func patch(operations string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + operations + `]}`
}

func (d *desk) make(name, more string) string {
	d.t.Helper()
	id, _ := d.ask("POST", "/Users", user(name, more)).want(201).json["id"].(string)
	return id
}

func (d *desk) person(address string) identity.Person {
	d.t.Helper()
	p, err := d.db.PersonByAddress(d.t.Context(), address)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

// The life of a user, with every answer that RFC 7644 names.
func TestLife(t *testing.T) {
	d := newDesk(t)
	made := d.ask("POST", "/Users", user("Ann@Example.ORG", `,"externalId":"e-1","displayName":"Ann A.","active":true,"password":"never-kept-1",
		"name":{"givenName":"Ann","familyName":"A."},"emails":[{"value":"ann@elsewhere.test","type":"work","primary":true}]`))
	made.want(201, `"userName":"ann@example.org"`, `"active":true`, `"externalId":"e-1"`, `"ann@elsewhere.test"`, `"resourceType":"User"`)
	id, _ := made.json["id"].(string)
	place := "/Users/" + id
	if got := made.header.Get("Location"); got != base+place {
		t.Errorf("Location %s", got)
	}
	if strings.Contains(made.text, "never-kept-1") {
		t.Error("a password comes back")
	}
	if p := d.person("ann@example.org"); p.Name != "Ann A." || p.Admin || string(p.ID) != id {
		t.Errorf("person %+v", p)
	}
	d.ask("POST", "/Users", user("ann@example.org", "")).want(409, `"scimType":"uniqueness"`, `"status":"409"`)
	d.ask("POST", "/Users", user("bob@example.org", `,"externalId":"e-1"`)).want(409)

	tag := made.header.Get("ETag")
	d.ask("GET", place, "", "If-None-Match", tag).want(304)
	d.ask("PUT", place, user("ann@example.org", `,"displayName":"Anna"`), "If-Match", `W/"other"`).want(412)
	put := d.ask("PUT", place, user("ann@example.org", `,"displayName":"Anna","active":true`), "If-Match", tag).want(200, `"Anna"`, `"e-1"`)
	if put.header.Get("ETag") == tag {
		t.Error("the tag did not change")
	}
	d.ask("GET", place, "").want(200, put.header.Get("ETag")[3:10])
	before := d.trail()
	d.ask("PUT", place, user("ann@example.org", `,"displayName":"Anna","active":true`)).want(200)
	if after := d.trail(); after != before {
		t.Errorf("the same again left %s", strings.TrimPrefix(after, before))
	}
	d.ask("PATCH", place, patch(`{"op":"replace","path":"active","value":false}`)).want(200, `"active":false`)
	if p := d.person("ann@example.org"); p.Disabled.IsZero() {
		t.Error("the person is not disabled")
	}
	d.ask("PATCH", place, patch(`{"op":"replace","path":"active","value":true}`)).want(200, `"active":true`)
	d.ask("DELETE", place, "", "If-Match", `"no"`).want(412)
	if a := d.ask("DELETE", place, ""); a.status != 204 || a.text != "" {
		t.Errorf("DELETE: %d %s", a.status, a.text)
	}
	d.ask("DELETE", place, "").want(404, "urn:ietf:params:scim:api:messages:2.0:Error")
	d.ask("GET", place, "").want(404)
	want := "person.added person.changed person.disabled person.enabled person.removed"
	if got := d.trail(); got != want {
		t.Errorf("trail %s, want %s", got, want)
	}
}

// trail is the kinds of all events of the directory, the oldest first.
func (d *desk) trail() string {
	events, err := d.db.Events(d.t.Context(), identity.EventFilter{})
	if err != nil {
		d.t.Fatal(err)
	}
	kinds := make([]string, len(events))
	for i, e := range events {
		if e.Actor != "scim" {
			d.t.Errorf("%s by %s", e.Kind, e.Actor)
		}
		kinds[len(events)-1-i] = e.Kind
	}
	return strings.Join(kinds, " ")
}

// What directories really send.
func TestPatchShapes(t *testing.T) {
	const enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	for _, c := range []struct{ who, operations, want string }{
		{"Entra ID, text for a truth", `{"op":"Replace","path":"active","value":"False"}`, `"active":false`},
		{"Entra ID, a truth", `{"op":"Replace","path":"active","value":false}`, `"active":false`},
		{"Entra ID of old, wrapped", `{"op":"Replace","path":"active","value":[{"$ref":null,"value":"False"}]}`, `"active":false`},
		{"Entra ID, work mail added", `{"op":"Add","path":"emails[type eq \"home\"].value","value":"h@x.test"}`, `{"value":"h@x.test","type":"home"}`},
		{"Entra ID, work mail replaced", `{"op":"Replace","path":"emails[type eq \"work\"].value","value":"w@x.test"}`, `{"value":"w@x.test","type":"work","primary":true}`},
		{"Entra ID, several at once", `{"op":"Replace","path":"displayName","value":"New"},{"op":"Replace","path":"name.familyName","value":"N"},{"op":"Add","path":"title","value":"x"},{"op":"Add","path":"` + enterprise + `:department","value":"x"},{"op":"Add","path":"phoneNumbers[type eq \"work\"].value","value":"1"}`, `"displayName":"New"`},
		{"Entra ID, names without a path", `{"op":"Add","value":{"displayName":"P","name.givenName":"G","` + enterprise + `:manager":"7"}}`, `"givenName":"G"`},
		{"Okta, without a path", `{"op":"replace","value":{"active":false}}`, `"active":false`},
		{"Okta, an extension whole", `{"op":"replace","value":{"` + enterprise + `":{"department":"x"},"displayName":"O"}}`, `"displayName":"O"`},
		{"authentik", `{"op":"replace","path":null,"value":{"userName":"ann@example.org","name":{"formatted":"A B","familyName":"B","givenName":"A"},"displayName":"A B","photos":[],"active":false,"emails":[{"value":"ann@example.org","type":"other","primary":true}],"externalId":"ak"}}`, `"externalId":"ak"`},
		{"Keycloak plug-ins", `{"op":"replace","path":"urn:ietf:params:scim:schemas:core:2.0:User:active","value":"false"}`, `"active":false`},
		{"a name whole", `{"op":"add","path":"name","value":{"honorificPrefix":"Dr."}}`, `"honorificPrefix":"Dr."`},
		{"a list", `{"op":"replace","path":"emails","value":[{"value":"1@x.test"},{"value":"2@x.test","primary":"True"}]}`, `[{"value":"1@x.test"},{"value":"2@x.test","primary":true}]`},
		{"one more", `{"op":"add","path":"emails","value":{"value":"3@x.test","type":"other"}}`, `"3@x.test"`},
		{"one less", `{"op":"add","path":"emails","value":{"value":"3@x.test","type":"other"}},{"op":"remove","path":"emails[type eq \"work\"]"}`, `"emails":[{"value":"3@x.test","type":"other"}]`},
		{"a removed name", `{"op":"remove","path":"displayName"}`, `"active":true`},
		{"the id once more", `{"op":"replace","value":{"id":"ID","displayName":"I"}}`, `"displayName":"I"`},
		{"case", `{"op":"REPLACE","path":"DISPLAYNAME","value":"C"}`, `"displayName":"C"`},
	} {
		t.Run(c.who, func(t *testing.T) {
			d := newDesk(t)
			id := d.make("ann@example.org", `,"displayName":"Old","active":"True"`)
			d.ask("PATCH", "/Users/"+id, patch(strings.ReplaceAll(c.operations, `"ID"`, `"`+id+`"`))).want(200, c.want)
			d.ask("GET", "/Users/"+id, "").want(200, c.want)
		})
	}
}

// What one operation says twice is not a matter of chance.
func TestPatchWithoutPathHasAnOrder(t *testing.T) {
	d := newDesk(t)
	place := "/Users/" + d.make("ann@example.org", "")
	for range 20 {
		d.ask("PATCH", place, patch(`{"op":"replace","value":{"name.givenName":"Anna","name":{"givenName":"Ann","familyName":"A."},"active":true,"ACTIVE":false}}`)).
			want(200, `"givenName":"Anna"`, `"familyName":"A."`, `"active":true`)
	}
}

func TestRefusals(t *testing.T) {
	d := newDesk(t)
	id := d.make("ann@example.org", "")
	d.make("bob@example.org", "")
	place := "/Users/" + id
	before := d.ask("GET", place, "").text
	for _, c := range []struct {
		what, method, path, body string
		status                   int
		kind                     string
	}{
		{"another domain", "POST", "/Users", user("ann@elsewhere.test", ""), 400, "invalidValue"},
		{"no address", "POST", "/Users", user("ann", ""), 400, "invalidValue"},
		{"a catch-all", "POST", "/Users", user("@example.org", ""), 400, "invalidValue"},
		{"no userName", "POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"]}`, 400, "invalidValue"},
		{"no schema", "POST", "/Users", `{"userName":"x@example.org"}`, 400, "invalidSyntax"},
		{"no JSON", "POST", "/Users", `userName`, 400, "invalidSyntax"},
		{"two values", "POST", "/Users", user("x@example.org", "") + `{}`, 400, "invalidSyntax"},
		{"a number as name", "POST", "/Users", user("x@example.org", `,"displayName":7`), 400, "invalidSyntax"},
		{"active maybe", "POST", "/Users", user("x@example.org", `,"active":"maybe"`), 400, "invalidValue"},
		{"too much", "POST", "/Users", user("x@example.org", `,"displayName":"`+strings.Repeat("x", 70<<10)+`"`), 413, ""},
		{"a long name", "POST", "/Users", user("x@example.org", `,"displayName":"`+strings.Repeat("x", 300)+`"`), 400, "invalidValue"},
		{"control characters", "POST", "/Users", user("x@example.org", `,"externalId":"a\u0000b"`), 400, "invalidValue"},
		{"another's userName", "PUT", place, user("bob@example.org", ""), 409, "uniqueness"},
		{"another's by PATCH", "PATCH", place, patch(`{"op":"replace","path":"userName","value":"bob@example.org"}`), 409, "uniqueness"},
		{"userName elsewhere", "PATCH", place, patch(`{"op":"replace","path":"userName","value":"ann@elsewhere.test"}`), 400, "invalidValue"},
		{"userName removed", "PATCH", place, patch(`{"op":"remove","path":"userName"}`), 400, "mutability"},
		{"active removed", "PATCH", place, patch(`{"op":"remove","path":"active"}`), 400, "mutability"},
		{"id changed", "PATCH", place, patch(`{"op":"replace","path":"id","value":"7"}`), 400, "mutability"},
		{"no such attribute", "PATCH", place, patch(`{"op":"replace","path":"admin","value":true}`), 400, "invalidPath"},
		{"no such attribute in a value", "PATCH", place, patch(`{"op":"replace","value":{"admin":true}}`), 400, "invalidPath"},
		{"nothing selected", "PATCH", place, patch(`{"op":"replace","path":"emails[type eq \"home\"].value","value":"x"}`), 400, "noTarget"},
		{"removed from nowhere", "PATCH", place, patch(`{"op":"remove"}`), 400, "noTarget"},
		{"no value", "PATCH", place, patch(`{"op":"add","path":"displayName"}`), 400, "invalidValue"},
		{"no such op", "PATCH", place, patch(`{"op":"move","path":"displayName","value":"x"}`), 400, "invalidSyntax"},
		{"no operation", "PATCH", place, patch(``), 400, "invalidSyntax"},
		{"101 operations", "PATCH", place, patch(strings.Repeat(`{"op":"replace","path":"title","value":"x"},`, 100) + `{"op":"replace","path":"title","value":"x"}`), 400, "invalidSyntax"},
		{"not a PATCH", "PATCH", place, user("ann@example.org", ""), 400, "invalidSyntax"},
		{"a bad path", "PATCH", place, patch(`{"op":"replace","path":"emails[type eq","value":"x"}`), 400, "invalidPath"},
		{"a bad filter in it", "PATCH", place, patch(`{"op":"replace","path":"emails[type pr].value","value":"x"}`), 400, "invalidFilter"},
		{"half of it good", "PATCH", place, patch(`{"op":"replace","path":"displayName","value":"X"},{"op":"replace","path":"active","value":7}`), 400, "invalidValue"},
		{"nobody", "PATCH", "/Users/nobody", patch(`{"op":"replace","path":"active","value":false}`), 404, ""},
		{"nobody replaced", "PUT", "/Users/nobody", user("x@example.org", ""), 404, ""},
		{"groups", "GET", "/Groups", "", 404, ""},
		{"deeper", "GET", "/Users/x/y", "", 404, ""},
		{"bulk", "POST", "/Bulk", "{}", 404, ""},
		{"all deleted", "DELETE", "/Users", "", 405, ""},
		{"posted to one", "POST", place, "{}", 405, ""},
		{"another filter", "GET", "/Users?filter=userName+co+%22ann%22", "", 400, "invalidFilter"},
		{"a filter with and", "GET", "/Users?filter=userName+eq+%22a%22+and+active+eq+true", "", 400, "invalidFilter"},
		{"by another attribute", "GET", "/Users?filter=displayName+eq+%22a%22", "", 400, "invalidFilter"},
		{"a count of words", "GET", "/Users?count=all", "", 400, "invalidValue"},
		{"a filter on what we are", "GET", "/Schemas?filter=id+eq+%22x%22", "", 403, ""},
	} {
		a := d.ask(c.method, c.path, c.body)
		if kind, _ := a.json["scimType"].(string); a.status != c.status || kind != c.kind || a.json["status"] != fmt.Sprint(c.status) {
			t.Errorf("%s: %d %s, want %d %s", c.what, a.status, a.text, c.status, c.kind)
		}
	}
	if after := d.ask("GET", place, "").text; after != before {
		t.Errorf("the user has changed:\n%s\n%s", before, after)
	}
	if a := d.ask("PUT", place, user("ann@example.org", ""), "Content-Type", "text/plain"); a.status != 415 {
		t.Errorf("text/plain: %d", a.status)
	}
}

func TestToken(t *testing.T) {
	d := newDesk(t)
	for _, given := range []string{"", "Bearer", "Bearer ", "Bearer " + token[1:], "Bearer " + token + "0", "Basic " + token, token, "Bearer " + strings.ToUpper(token)} {
		for _, path := range []string{"/Users", "/ServiceProviderConfig", "/nowhere"} {
			a := d.ask("GET", path, "", "Authorization", given)
			if a.status != 401 || a.header.Get("WWW-Authenticate") == "" || strings.Contains(a.text, token) {
				t.Errorf("%q at %s: %d %s", given, path, a.status, a.text)
			}
		}
	}
	d.ask("GET", "/Users", "", "Authorization", "bearer "+token).want(200)
	o := options(d.db)
	o.Token = secret.New("short")
	if _, err := scim.New(o); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("a short token: %v", err)
	}
}

func TestList(t *testing.T) {
	d := newDesk(t)
	for i := range 5 {
		d.make(fmt.Sprintf("u%d@example.org", i), fmt.Sprintf(`,"externalId":"E%d"`, i))
	}
	var names string
	for start := 1; start <= 5; start += 2 {
		a := d.ask("GET", fmt.Sprintf("/Users?startIndex=%d&count=2", start), "").want(200, `"totalResults":5`, fmt.Sprintf(`"startIndex":%d`, start))
		for _, one := range a.json["Resources"].([]any) {
			names += one.(map[string]any)["userName"].(string)[:2]
		}
	}
	if names != "u0u1u2u3u4" {
		t.Errorf("pages %s", names)
	}
	for query, want := range map[string]string{
		"filter=userName+eq+%22U3%40example.org%22":                                            `"u3@example.org"`,
		"filter=externalId+eq+%22E4%22":                                                        `"u4@example.org"`,
		"filter=urn:ietf:params:scim:schemas:core:2.0:User:userName+EQ+%22u1%40example.org%22": `"u1@example.org"`,
		"filter=externalId+eq+%22e4%22":                                                        `"totalResults":0`,
		"filter=userName+eq+%22nobody%40example.org%22":                                        `"Resources":[]`,
		"filter=userName+eq+%22no%20address%22":                                                `"totalResults":0`,
		"count=0":                                                                              `"totalResults":5,"startIndex":1,"itemsPerPage":0`,
		"count=-1&startIndex=-7":                                                               `"startIndex":1,"itemsPerPage":0`,
		"startIndex=9":                                                                         `"totalResults":5,"startIndex":9,"itemsPerPage":0,"Resources":[]`,
		"filter=userName+eq+%22u1%40example.org%22&startIndex=2":                               `"itemsPerPage":0`,
		"attributes=userName&count=1":                                                          `"Resources":[{"id":`,
		"excludedAttributes=emails,meta,schemas,id,urn:ietf:params:scim:schemas:core:2.0:User:active&count=1": `"userName":"u0@example.org"}`,
	} {
		d.ask("GET", "/Users?"+query, "").want(200, want)
	}
	if a := d.ask("GET", "/Users?attributes=userName&count=1", ""); strings.Contains(a.text, "meta") || strings.Contains(a.text, "active") {
		t.Errorf("more than was asked for: %s", a.text)
	}
	if a := d.ask("HEAD", "/Users", ""); a.status != 200 || a.text != "" {
		t.Errorf("HEAD: %d %q", a.status, a.text)
	}
}

// Whoever else shuts somebody out, the directory does not let them in.
func TestOthersHoldsStay(t *testing.T) {
	d := newDesk(t)
	id := d.make("ann@example.org", "")
	if err := d.db.DisablePerson(t.Context(), identity.PersonID(id), time.Now(), "stolen laptop"); err != nil {
		t.Fatal(err)
	}
	d.ask("PUT", "/Users/"+id, user("ann@example.org", `,"active":true`)).want(200, `"active":false`)
	d.ask("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"active","value":false}`)).want(200, `"active":false`)
	d.ask("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"active","value":true}`)).want(200, `"active":false`)
	if p := d.person("ann@example.org"); p.Reason != "stolen laptop" {
		t.Errorf("reason %q", p.Reason)
	}
	// A directory that changes a name says nothing about being active.
	d.ask("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"displayName","value":"Ann"}`)).want(200)
	if err := d.db.EnablePerson(t.Context(), identity.PersonID(id)); err != nil {
		t.Fatal(err)
	}
	d.ask("GET", "/Users/"+id, "").want(200, `"active":true`)
}

// Somebody made by hand is found, taken over, and shows what an administrator changed.
// A directory that deletes somebody and makes them again does not undo what an administrator
// said, whatever it says of being active.
func TestMadeAgain(t *testing.T) {
	d := newDesk(t)
	id := d.make("ann@example.org", `,"externalId":"e1"`)
	p := d.person("ann@example.org")
	if err := d.db.DisablePerson(t.Context(), p.ID, time.Now(), "stole"); err != nil {
		t.Fatal(err)
	}
	d.ask("DELETE", "/Users/"+id, "").want(204)
	id, _ = d.ask("POST", "/Users", user("ann@example.org", `,"active":true`)).want(201, `"active":false`).json["id"].(string)
	d.ask("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"active","value":true}`)).want(200, `"active":false`)
	if p = d.person("ann@example.org"); p.Disabled.IsZero() || p.Reason != "stole" {
		t.Errorf("%+v", p)
	}
	if err := d.db.EnablePerson(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	d.ask("DELETE", "/Users/"+id, "").want(204)
	d.ask("POST", "/Users", user("ann@example.org", "")).want(201, `"active":true`)
}

// A deletion of the user as they were, and a change, at once: one of them comes first, and
// the other is told. Never are both done.
func TestDeletedAsItWas(t *testing.T) {
	d := newDesk(t)
	changed := 0
	for round := range 40 {
		name := fmt.Sprintf("p%d@example.org", round)
		made := d.ask("POST", "/Users", user(name, "")).want(201)
		id, _ := made.json["id"].(string)
		var first, second answer
		var both sync.WaitGroup
		start := make(chan struct{})
		both.Go(func() {
			<-start
			first = d.ask("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"displayName","value":"Changed"}`), "If-Match", made.header.Get("ETag"))
		})
		both.Go(func() {
			<-start
			second = d.ask("DELETE", "/Users/"+id, "", "If-Match", made.header.Get("ETag"))
		})
		close(start)
		both.Wait()
		switch {
		case first.status == 200 && second.status == 412:
			changed++
		case first.status == 404 && second.status == 204:
		default:
			t.Fatalf("round %d: PATCH %d, DELETE %d", round, first.status, second.status)
		}
		if _, err := d.db.PersonByAddress(t.Context(), name); (err == nil) != (first.status == 200) {
			t.Errorf("round %d: %v", round, err)
		}
	}
	t.Logf("the change came first in %d of 40", changed)
}

// Between the look at a user and their removal nothing comes in, however slow it is.
func TestNothingComesBetween(t *testing.T) {
	d := newDesk(t)
	id := d.make("ann@example.org", "")
	tag := d.ask("GET", "/Users/"+id, "").want(200).header.Get("ETag")
	between := &slowDesk{DB: d.db, looked: func() {
		// Another instance's change, which waits for its turn in vain or comes too late.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := d.db.ChangeUser(ctx, identity.PersonID(id), time.Now(), "other", func(u *identity.User) error { u.Person.Name = "Changed"; return nil })
		if err == nil {
			t.Error("a change came in between")
		}
	}}
	h, err := scim.New(options(between))
	if err != nil {
		t.Fatal(err)
	}
	d.h = h
	d.ask("DELETE", "/Users/"+id, "", "If-Match", tag).want(204)
}

// A slowDesk has something happen after a user was looked at.
type slowDesk struct {
	*database.DB
	looked func()
}

func (s *slowDesk) User(ctx context.Context, id identity.PersonID) (identity.User, error) {
	u, err := s.DB.User(ctx, id)
	s.looked()
	return u, err
}

func TestPersonFromElsewhere(t *testing.T) {
	d := newDesk(t)
	p := identity.Person{ID: "p1", Address: "ann@example.org", Name: "Ann", Created: time.Now()}
	if err := d.db.AddPerson(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	d.ask("POST", "/Users", user("ann@example.org", "")).want(409)
	d.ask("GET", "/Users?filter=userName+eq+%22ann%40example.org%22", "").want(200, `"id":"p1"`, `"displayName":"Ann"`, `"emails":[{"value":"ann@example.org","type":"work","primary":true}]`)
	d.ask("PATCH", "/Users/p1", patch(`{"op":"add","path":"externalId","value":"E"},{"op":"replace","path":"emails[type eq \"work\"].value","value":"a@x.test"}`)).want(200, `"externalId":"E"`, "a@x.test")
	p.Name = "Ann by hand"
	if err := d.db.UpdatePerson(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	d.ask("GET", "/Users/p1", "").want(200, `"displayName":"Ann by hand"`, "a@x.test")
	// A new userName is a new address; mail for the old one goes on, and derived e-mails follow.
	bob := d.make("bob@example.org", "")
	d.ask("PUT", "/Users/"+bob, user("rob@example.org", "")).want(200, `"rob@example.org"`)
	d.ask("GET", "/Users/"+bob, "").want(200, `"emails":[{"value":"rob@example.org"`)
	if a, err := d.db.Address(t.Context(), "bob@example.org"); err != nil || len(a.Targets) != 1 || a.Targets[0] != "rob@example.org" {
		t.Errorf("the old address: %+v %v", a, err)
	}
}

func TestDescribe(t *testing.T) {
	d := newDesk(t)
	d.ask("GET", "/ServiceProviderConfig", "").want(200, `"patch":{"supported":true}`, `"oauthbearertoken"`, `"etag":{"supported":true}`)
	d.ask("GET", "/ResourceTypes", "").want(200, `"totalResults":1`, `"endpoint":"/Users"`)
	d.ask("GET", "/ResourceTypes/User", "").want(200, `"schema":"urn:ietf:params:scim:schemas:core:2.0:User"`)
	d.ask("GET", "/Schemas", "").want(200, `"totalResults":1`)
	d.ask("GET", "/Schemas/urn:ietf:params:scim:schemas:core:2.0:User", "").want(200, `"userName"`, base+"/Schemas/")
	d.ask("GET", "/ResourceTypes/Group", "").want(404)
}

// away is a store that cannot be asked.
type away struct{ scim.Store }

func (away) User(context.Context, identity.PersonID) (identity.User, error) {
	return identity.User{}, fmt.Errorf("find user: %w", identity.ErrUnavailable)
}

func (away) Together(ctx context.Context, do func(context.Context) error) error { return do(ctx) }

func TestDatabaseAway(t *testing.T) {
	h, err := scim.New(options(away{}))
	if err != nil {
		t.Fatal(err)
	}
	(&desk{t: t, h: h}).ask("GET", "/Users/x", "").want(503, "try again later")
	(&desk{t: t, h: h}).ask("DELETE", "/Users/x", "").want(503)
}
