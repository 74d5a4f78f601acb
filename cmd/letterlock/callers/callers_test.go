//go:build lab && linux

package callers

import (
	"slices"
	"strings"
	"testing"
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
	ours := p.ours()
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
