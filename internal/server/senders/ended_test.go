package senders

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A stopwatch is a clock that tests move while the milter looks at it.
type stopwatch struct{ seconds atomic.Int64 }

func (w *stopwatch) now() time.Time {
	return clock().Add(time.Duration(w.seconds.Load()) * time.Second)
}

// An SMTP session outlives the sign-in that opened it. Once a right has ended that it may
// stand on, its next message is refused and so is the one under way; others go on, and so
// does whoever signs in anew.
func TestSessionOfAnEndedRight(t *testing.T) {
	const ann = "ann@example.org"
	end := func(id identity.CredentialID, change func(*identity.Credential)) func(*town, time.Time) {
		return func(s *town, _ time.Time) {
			for i, c := range s.credentials["ann"] {
				if c.ID == id {
					change(&s.credentials["ann"][i])
				}
			}
		}
	}
	at := func(seconds int) time.Time { return clock().Add(time.Duration(seconds) * time.Second) }
	for _, c := range []struct {
		name, login string
		change      func(*town, time.Time)
		want        string // of the next message
	}{
		{"nothing", ann, func(*town, time.Time) {}, "ok"},
		{"an unlimited one revoked", ann, end("c-all", func(c *identity.Credential) { c.Revoked = at(60) }), "mail 421"},
		{"an unlimited one expired", ann, end("c-all", func(c *identity.Credential) { c.Expires = at(60) }), "mail 421"},
		{"one that will expire", ann, end("c-all", func(c *identity.Credential) { c.Expires = at(3600) }), "ok"},
		{"one revoked before it began", ann, end("c-all", func(c *identity.Credential) { c.Revoked = at(-1) }), "ok"},
		{"another's limits", ann, end("c-cron", func(c *identity.Credential) { c.Revoked = at(60) }), "ok"},
		{"a grant revoked", ann, func(s *town, now time.Time) { s.grants["ann"][0].Revoked = now }, "mail 421"},
		{"the person disabled", ann, func(s *town, now time.Time) {
			p := s.people["ann"]
			p.Disabled = now
			s.people["ann"] = p
		}, "mail 550"},
		{"a limited one revoked", "ann+cron@example.org", end("c-cron", func(c *identity.Credential) { c.Revoked = at(60) }), "mail 550"},
		{"revoked, and its name given to a new one", "ann+cron@example.org", func(s *town, _ time.Time) {
			end("c-cron", func(c *identity.Credential) { c.Revoked = at(60) })(s, at(60))
			s.credentials["ann"] = append(s.credentials["ann"], identity.Credential{ID: "c-new", Name: "cron", PerHour: 9, Created: at(61)})
		}, "mail 421"},
		{"an unlimited one, for a session with limits", "ann+cron@example.org", end("c-all", func(c *identity.Credential) { c.Revoked = at(60) }), "ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, watch := settle(), &stopwatch{}
			s.grants = map[identity.PersonID][]identity.Grant{"ann": {{ID: "g1", Person: "ann"}, {ID: "g2", Person: "ann", Revoked: at(-3600)}}}
			for i := range s.credentials["ann"] {
				s.credentials["ann"][i].PerHour *= 10
			}
			path := start(t, NewMilter(MilterOptions{Book: NewBook(s, "+", watch.now), Counter: s, Log: quietLog(), Now: watch.now}))
			send := func(m *mta) string {
				return m.message(c.login, ann, []string{"friend@elsewhere.example"}, "From: "+ann)
			}
			idle, busy := connect(t, path), connect(t, path)
			if got := send(idle); got != "ok" {
				t.Fatalf("before: %s", got)
			}
			if got := busy.begin(c.login, ann); got != "ok" {
				t.Fatal(got)
			}
			watch.seconds.Store(120)
			s.mu.Lock()
			c.change(s, watch.now())
			s.mu.Unlock()
			if got := send(idle); got != c.want {
				t.Errorf("the next message: %s, want %s", got, c.want)
			}
			action, err := busy.session.HeaderField("From", ann)
			busy.must(err)
			_, end, err := busy.session.End()
			if got := busy.action(end, err); (got == "ok") != (c.want == "ok") && c.want != "mail 550" {
				t.Errorf("the message under way (%c): %s", action.Code, got)
			}
			watch.seconds.Store(180)
			if got := send(connect(t, path)); got != "ok" && c.want != "mail 550" {
				t.Errorf("signed in anew: %s", got)
			}
		})
	}
}

// An hour's messages are those of the last hour, not of the clock's: who waits for the
// full hour has no double portion, and one each hour is never late for a limit of one.
func TestMessagesOfAnHour(t *testing.T) {
	s, watch := settle(), &stopwatch{}
	m := connect(t, start(t, NewMilter(MilterOptions{Book: NewBook(s, "+", watch.now), Counter: s, Log: quietLog(), Now: watch.now})))
	send := func() string {
		return m.message("ann+scanner@example.org", "ann@example.org", []string{"ann@example.org"}, "From: ann@example.org")
	}
	minute := func(n int64) { watch.seconds.Store(60 * n) } // from half past three on
	for _, step := range []struct {
		minute int64
		want   string
	}{
		{25, "ok"}, {28, "ok"}, {29, "mail 451"}, // two an hour
		{31, "ok"}, {32, "mail 451"}, {45, "mail 451"}, // four o'clock is past: one, not two
		{61, "ok"}, {62, "mail 451"},
		{91, "ok"}, {92, "mail 451"}, {200, "ok"}, {200, "ok"}, {201, "mail 451"},
	} {
		minute(step.minute)
		if got := send(); got != step.want {
			t.Errorf("at minute %d: %s, want %s", step.minute, got, step.want)
		}
	}
	for hour := range int64(6) {
		minute(600 + 60*hour)
		if got := m.message("ann+cron@example.org", "ann@example.org", []string{"ann@example.org"}, "From: ann@example.org"); got != "ok" {
			t.Errorf("one each hour, the %d.: %s", hour+1, got)
		}
	}
}
