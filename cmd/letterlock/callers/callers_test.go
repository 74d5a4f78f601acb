//go:build lab && linux

package callers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// TestCallers: each program's message lies in the mailboxes it meant, as it wrote it.
func TestCallers(t *testing.T) {
	m := newMachine(t)
	m.record()
	for _, p := range programs() {
		t.Run(p.name, func(t *testing.T) {
			m := m.in(t)
			m.run(p)
			calls := m.calls(1)
			m.idle()
			calls = append(calls, m.calls(0)...)
			got := m.arrivals(len(p.wants))
			m.check(p, got)
			m.compare(p, calls, got)
		})
	}
}

// in is the machine for a part of a test.
func (m *machine) in(t testing.TB) *machine {
	inner := *m
	inner.t = t
	return &inner
}

func (m *machine) run(p program) {
	m.t.Helper()
	user := p.user
	if user == "" {
		user = "root"
	}
	m.sh(user, p.script)
	if p.after != "" {
		m.t.Cleanup(func() { m.sh("root", p.after) })
	}
}

// ours is the address of the account that sends.
func (p program) ours() string {
	if p.user == "joe" || p.as == "joe" {
		return "bob@try.test"
	}
	return "alice@try.test"
}

// check looks at the mailboxes as a person would.
func (m *machine) check(p program, got []arrival) {
	m.t.Helper()
	if len(got) != len(p.wants) {
		m.t.Errorf("%d messages came, want %d: %+v", len(got), len(p.wants), got)
		return
	}
	ours, got := p.ours(), slices.Clone(got)
	for _, w := range p.wants {
		i := slices.IndexFunc(got, func(a arrival) bool {
			return a.mailbox == w.mailbox && strings.Contains(a.letter.subject(), w.subject)
		})
		if i < 0 {
			m.t.Errorf("no message %q came to %s: %+v", w.subject, w.mailbox, got)
			continue
		}
		a := got[i]
		got = slices.Delete(got, i, i+1)
		from := decoded(a.letter.get("From"))
		if a.from != ours || !strings.Contains(from, ours) || !strings.Contains(from, w.name) || a.letter.get("To") != qualified(w.to) || !strings.Contains(a.letter.body, w.body) {
			m.t.Errorf("want %+v of %s, got %+v", w, ours, a)
		}
	}
}

// TestDovecotSubmission: a sample of the same through Dovecot's submission server,
// which relays to Postfix; and nobody in between records.
func TestDovecotSubmission(t *testing.T) {
	m := newMachine(t)
	options := m.mailOptions(fmt.Sprintf("127.0.0.1:%d", m.postfix.SMTP))
	options.Mechanisms = "xoauth2" // Postfix's takes OAUTHBEARER
	submission := lab.RunDovecot(t, options)
	for _, user := range []string{"root", "joe"} {
		m.sh(user, fmt.Sprintf("sed -i 's/:%d/:%d/; s/= %d$/= %d/' ~/.config/letterlock/config.toml", m.postfix.Subs, submission.Subs, m.postfix.Subs, submission.Subs))
	}
	ran := 0
	for _, p := range programs() {
		if !p.sample {
			continue
		}
		ran++
		t.Run(p.name, func(t *testing.T) {
			m := m.in(t)
			m.run(p)
			m.check(p, m.arrivals(len(p.wants)))
			m.idle()
		})
	}
	relayed := 0
	for _, line := range submission.Log() {
		if strings.Contains(line, "submission(alice@try.test)") && strings.Contains(line, "Successfully relayed message") {
			relayed++
		}
	}
	if relayed < ran {
		t.Errorf("Dovecot relayed %d messages of %d programs", relayed, ran)
	}
}

// TestDeadToken: the grant is revoked while programs call. Each hears 0, its message
// waits, and goes after the sign-in; nothing is lost and nothing comes twice.
func TestDeadToken(t *testing.T) {
	m := newMachine(t)
	if out := m.sh("root", "letterlock token machine --for imap 2>&1 && echo given; true"); strings.Contains(out, "given") {
		t.Errorf("the right to send reads: %s", out)
	}
	m.record()
	if _, err := m.op.Revoke(within(t), lab.Alice().Email); err != nil {
		t.Fatal(err)
	}
	var wants []want
	for _, p := range programs() {
		if !p.sample || p.ours() != lab.Alice().Email {
			continue
		}
		m.run(p)
		for _, c := range m.calls(1) {
			if c.status != "0" {
				t.Errorf("%q ended with %s", c.args, c.status)
			}
		}
		wants = append(wants, p.wants...)
	}
	m.sh("root", `for i in $(seq 600); do mailq | grep -q 'held' && exit 0; read -rt 0.1 <> <(:) || true; done; letterlock queue list; exit 1`)
	if early := m.fresh(); len(early) > 0 {
		t.Errorf("these came without a right: %+v", early)
	}
	m.signIn("root", "/root", lab.Alice())
	got := m.arrivals(len(wants))
	m.check(program{wants: wants}, got)
	m.idle()
	if more := m.fresh(); len(more) > 0 {
		t.Errorf("these came too: %+v", more)
	}
}
