package scim

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func fuzzHandler() *Handler {
	return &Handler{Options{Domains: []string{"example.org"}, Now: time.Now, Random: rand.Reader, Log: slog.New(slog.DiscardHandler)}}
}

// sound: an error of a parser is a Fault, which has a status for the caller.
func sound(t *testing.T, err error) {
	t.Helper()
	var f *Fault
	if err != nil && (!errors.As(err, &f) || f.status < 400 || f.status > 499) {
		t.Fatalf("%v", err)
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{`userName eq "ann@example.org"`, `externalId EQ "x\u0000"`, `active eq true`, `emails[type eq "work"] eq "x"`, `userName  eq`, ` eq "x"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseComparison(text)
		sound(t, err)
		if err == nil && (c.attribute == "" || c.attribute != strings.ToLower(c.attribute)) {
			t.Fatalf("attribute %q", c.attribute)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, seed := range []string{"active", "name.givenName", `emails[type eq "work"].value`, `emails[value eq "]"].value`, userSchema + ":userName", "urn:x:y", "a[b", "a..b", "emails[primary eq true]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePath(text)
		sound(t, err)
		if err == nil && !p.extension && (!plainName(p.attribute) || strings.ContainsAny(p.sub, "[]. ")) {
			t.Fatalf("%q is %+v", text, p)
		}
	})
}

// FuzzUser: what is taken can be kept, and comes back as it was.
func FuzzUser(f *testing.F) {
	for _, seed := range []string{`{"schemas":["` + userSchema + `"],"userName":"ann@example.org","name":{"givenName":"A"},"emails":[{"value":"x","primary":"True"}],"active":"False"}`,
		`{"schemas":["` + userSchema + `"],"userName":"a@example.org","displayName":"\u202ex","name":null,"active":null}`, `{}`, `[]`, `{"schemas":"x"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		wanted, err := readUser(data)
		sound(t, err)
		if err != nil {
			return
		}
		var u identity.User
		if err := fuzzHandler().into(wanted, &u); err != nil {
			sound(t, err)
			return
		}
		settled(t, u)
	})
}

func settled(t *testing.T, u identity.User) {
	t.Helper()
	if !strings.HasSuffix(u.Person.Address, "@example.org") || strings.ContainsAny(u.Person.Name, "\x00\n\u202e") {
		t.Fatalf("%q %q", u.Person.Address, u.Person.Name)
	}
	before := etag(resourceOf(u))
	again := resourceOf(u)
	again.Active = nil
	if err := fuzzHandler().into(again, &u); err != nil {
		t.Fatalf("what is shown is not taken: %v", err)
	}
	if after := etag(resourceOf(u)); after != before {
		text, _ := json.Marshal(again)
		t.Fatalf("said again it is another: %s", text)
	}
}

// FuzzPatch: operations change a user into one that can be kept, or nothing.
func FuzzPatch(f *testing.F) {
	for _, operations := range []string{`{"op":"Replace","path":"active","value":"False"}`, `{"op":"add","value":{"name.givenName":"x","emails":[]}}`,
		`{"op":"Add","path":"emails[type eq \"work\"].value","value":"x"}`, `{"op":"remove","path":"emails[primary eq true]"}`, `{"op":"remove","path":"name.familyName"}`,
		`{"op":"replace","path":"active","value":[{"value":"True"}]}`} {
		f.Add([]byte(`{"schemas":["` + patchSchema + `"],"Operations":[` + operations + `]}`))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		operations, err := parsePatch(data)
		sound(t, err)
		if err != nil {
			return
		}
		u := identity.User{Person: identity.Person{ID: "p", Address: "ann@example.org"}}
		wanted := resourceOf(u)
		wanted.Active = nil
		for _, one := range operations {
			if err := one.apply(&wanted); err != nil {
				sound(t, err)
				return
			}
		}
		if err := fuzzHandler().into(wanted, &u); err != nil {
			sound(t, err)
			return
		}
		settled(t, u)
	})
}
