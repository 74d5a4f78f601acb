//go:build lab

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// TestSecondRun lets a program run, waits until its token is refused, and lets it run
// again: the same configuration now costs one refresh at a provider that rotates.
func TestSecondRun(t *testing.T) {
	for _, c := range []client{
		{program: "msmtp", via: "token", methods: []string{"OAUTHBEARER"}},
		{program: "mbsync", via: "tunnel", methods: []string{"OAUTHBEARER"}},
	} {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			who := person(c.name(), 1)
			s := newSite(t, lab.OPOptions{People: []lab.Person{who}})
			d := newDesk(t, s, who, c)
			d.setup(c.program, c.via)
			use := func() { d.program(d.letter(), "msmtp", d.sentTo) }
			if c.program == "mbsync" {
				d.folders("~/Mail/" + who.Email)
				use = func() { d.program("", "mbsync", "-a") }
			}
			use()
			// Only the token between the runs is short-lived: one that ended while a slow
			// machine takes it to the server would be refused within a run.
			lives := func(ttl time.Duration) {
				if err := s.op.SetAccessTTL(within(t), ttl); err != nil {
					t.Fatal(err)
				}
			}
			lives(time.Second)
			d.signIn(s, who)
			if r := s.awaitRefusal(t, d.home, who, d.token(who.Email)); r.code != 77 {
				t.Fatalf("the token does not expire: %v", r)
			}
			lives(time.Hour)
			before, err := s.op.Refreshes(within(t))
			if err != nil {
				t.Fatal(err)
			}
			use()
			if after, err := s.op.Refreshes(within(t)); err != nil || after != before+1 {
				t.Errorf("the second run made %d refreshes: %v", after-before, err)
			}
			if n, err := s.op.Count(within(t), func(e lab.Event) bool { return e.Kind == "grant" && !e.OK }); err != nil || n != 0 {
				t.Errorf("the provider refused %d requests: %v", n, err)
			}
			if c.program == "mbsync" {
				d.fetched(d.path("~/Mail/" + who.Email))
			} else if _, err := s.sink.Wait(within(t), 2); err != nil {
				t.Error(err)
			}
		})
	}
}

// awaitRefusal tries a token until the mail server no longer takes it.
func (s *site) awaitRefusal(t *testing.T, h *home, who lab.Person, token string) result {
	t.Helper()
	ctx := within(t)
	for {
		r := h.run(token, "letterlock", "test", who.Email, "--token-stdin", "--ca-file", s.ca.File, "--imap", hostPort(s.dovecot.IMAPS), "--imap-security", "tls")
		if r.code != 0 || ctx.Err() != nil {
			return r
		}
	}
}

// A report is what test --json prints.
type report struct {
	Mailbox, Owner, Ownership string
	Checks                    []struct {
		Protocol, Mechanism string
		Steps               []struct {
			Step, Outcome, Challenge string
			Advice                   []struct{ Cause, Remedy string }
		}
	}
}

func (h *home) report(args ...string) (report, result) {
	h.t.Helper()
	r := h.letterlock(append([]string{"test", "--json"}, args...)...)
	var out report
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		h.t.Fatalf("test --json: %v: %v", err, r)
	}
	return out, r
}

// TestGoodAccount: every server with every mechanism, and the mailbox opened.
func TestGoodAccount(t *testing.T) {
	s := newSite(t, lab.OPOptions{})
	alice := lab.Alice()
	for name, more := range map[string][]string{"tls": nil, "starttls": s.startTLS()} {
		h := newHome(t)
		h.signIn(s, alice, more...)
		if r := h.letterlock("test", alice.Email); r.code != 0 {
			t.Errorf("%s: %v", name, r)
		}
		out, r := h.report(alice.Email)
		seen := map[string]bool{}
		for _, c := range out.Checks {
			seen[c.Protocol+" "+c.Mechanism] = true
			for _, step := range c.Steps {
				if step.Outcome != "ok" && !(c.Protocol == "smtp" && step.Step == "mailbox") {
					t.Errorf("%s: %s %s: %s is %s", name, c.Protocol, c.Mechanism, step.Step, step.Outcome)
				}
			}
		}
		if r.code != 0 || len(seen) != 6 || out.Mailbox != alice.Email || out.Owner != alice.Email || out.Ownership != "same" {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestBadToken: Dovecot refuses, and test shows the JSON it refuses with, the cause
// and what to do; nothing of the token.
func TestBadToken(t *testing.T) {
	s := newSite(t, lab.OPOptions{})
	ctx := within(t)
	alice, bob := lab.Alice(), lab.Bob()
	h := newHome(t)
	h.signIn(s, alice)
	token := h.token(alice.Email)
	if n, err := s.op.Revoke(ctx, alice.Email); err != nil || n != 1 {
		t.Fatalf("%d grants were revoked: %v", n, err)
	}
	out, r := h.report(alice.Email)
	checkRefused(t, "revoked", out, r, token)
	if len(out.Checks) != 6 {
		t.Errorf("revoked: %d sign-ins were tried: %v", len(out.Checks), r)
	}
	r = h.letterlock("test", alice.Email, "--trace")
	if r.code != 77 || !strings.Contains(r.stdout, "to do: ") || !strings.Contains(r.stderr, "letterlock: hint: ") || !strings.Contains(r.stdout, "invalid_token") {
		t.Errorf("revoked: %v", r)
	}
	if strings.Contains(r.stdout+r.stderr, token) {
		t.Error("the trace shows the token")
	}

	// Somebody else's token, and one that has expired.
	if err := s.op.SetAccessTTL(ctx, time.Second); err != nil {
		t.Fatal(err)
	}
	bobs, err := s.op.Token(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	// It may end between two sign-ins of one test; from the next test on it has ended.
	s.awaitRefusal(t, h, bob, bobs.AccessToken)
	r = s.awaitRefusal(t, h, bob, bobs.AccessToken)
	if r.code != 77 || !strings.Contains(r.stdout, "invalid_token") || !strings.Contains(r.stdout, "to do: ") || strings.Contains(r.stdout+r.stderr, bobs.AccessToken) {
		t.Errorf("expired: %v", r)
	}
	if r = s.awaitRefusal(t, h, alice, bobs.AccessToken); r.code != 77 {
		t.Errorf("somebody else's: %v", r)
	}
}

func checkRefused(t *testing.T, name string, out report, r result, token string) {
	t.Helper()
	if r.code != 77 || strings.Contains(r.stdout+r.stderr, token) {
		t.Errorf("%s: %v", name, r)
	}
	for _, c := range out.Checks {
		refused := false
		for _, step := range c.Steps {
			// Once a server has refused a token it is not asked again: some count.
			refused = refused || step.Outcome == "skipped" && c.Mechanism == "XOAUTH2"
			if step.Outcome != "failed" {
				continue
			}
			var challenge struct {
				Status string
				Where  string `json:"openid-configuration"`
			}
			if err := json.Unmarshal([]byte(step.Challenge), &challenge); err != nil || challenge.Status != "invalid_token" || !strings.HasSuffix(challenge.Where, "/openid-configuration") {
				t.Errorf("%s: %s %s: the challenge %q: %v", name, c.Protocol, c.Mechanism, step.Challenge, err)
			}
			refused = len(step.Advice) > 0 && step.Advice[0].Remedy != ""
		}
		if !refused {
			t.Errorf("%s: %s %s was not refused with a remedy: %+v", name, c.Protocol, c.Mechanism, c)
		}
	}
}
