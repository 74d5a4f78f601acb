package senders

import "testing"

// Mail for somebody who is disabled is refused, or kept by its sender, as the postmaster
// wants it; what is nobody's is refused in any case.
func TestSuspended(t *testing.T) {
	s := settle()
	later := NewSocketmap(SocketmapOptions{Book: NewBook(s, "+", clock), Log: quietLog(), DeferSuspended: true})
	for query, want := range map[string]string{
		"mailboxes gone@example.org":   "TEMP the mailbox is not in use at present",
		"mailboxes Gone+x@Example.org": "TEMP the mailbox is not in use at present",
		"mailboxes old@example.org":    "TEMP the mailbox is not in use at present", // its only owner is disabled
		"mailboxes nobody@example.org": "NOTFOUND ",
		"mailboxes no address":         "NOTFOUND ",
		"mailboxes all@example.org":    "NOTFOUND ", // an alias
		"mailboxes x@send.example":     "NOTFOUND ", // a catch-all for senders
		"mailboxes ann@example.org":    "OK ann@example.org",
		"mailboxes drop@example.org":   "OK drop@example.org",
		"senders gone@example.org":     "NOTFOUND ",
	} {
		if got := later.reply(t.Context(), query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}
