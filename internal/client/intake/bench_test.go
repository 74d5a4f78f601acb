package intake

import (
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// BenchmarkSubmit is one hand-over from the connection to the answer: message, envelope
// and hand-over are on disk by then.
func BenchmarkSubmit(b *testing.B) {
	s := newSite(b, func(o *Options) {
		o.Limits = Limits{Hourly: 1 << 30, Entries: 1 << 30, Bytes: 1 << 50}
	})
	text := strings.Repeat("x", 2000)
	for b.Loop() {
		receipt, err := s.submit(newSubmission(b), text)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.queue.Remove(queue.ID(receipt.ID)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
