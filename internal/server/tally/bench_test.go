package tally

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// BenchmarkNames is a guess at a name of its own each, from one network, with so many
// counted before: what guessers do with lists of addresses. Nothing is written meanwhile,
// so no name is known to be nobody's.
func BenchmarkNames(b *testing.B) {
	for _, before := range []int{0, 1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(before), func(b *testing.B) {
			names := make([]string, 1<<17)
			for i := range names {
				names[i] = fmt.Sprintf("user%d@example.org", i)
			}
			from := netip.MustParseAddr("192.0.2.1")
			t := New(Options{Store: &book{events: map[string]identity.Event{}}})
			refuse := func(i int) {
				t.Refused(Refusal{User: names[i%len(names)], From: from, Protocol: identity.IMAP, Reason: "unknown secret"})
			}
			for i := range before {
				refuse(i)
			}
			b.ReportAllocs()
			for i := before; b.Loop(); i++ {
				refuse(i)
			}
		})
	}
}
