package queue

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// null takes everything at once.
type null struct{}

func (null) Carry(context.Context, Envelope, io.ReadSeeker) ([]Outcome, error) { return nil, nil }

func (null) CarryJournal(_ context.Context, e Envelope, m io.ReadSeeker, j Journal) ([]Outcome, error) {
	if _, err := io.Copy(io.Discard, m); err != nil {
		return nil, err
	}
	if err := j.Commit(); err != nil {
		return nil, err
	}
	var outcomes []Outcome
	for _, r := range e.To {
		outcomes = append(outcomes, Outcome{Recipient: r.Address, Verdict: Delivered, Reply: "250 ok"})
	}
	return outcomes, nil
}

// benchQueue fills a queue with copies of one entry, unsynced: what is measured is
// not how it came to be.
func benchQueue(b *testing.B, entries int) *Queue {
	b.Helper()
	q, err := Open(filepath.Join(b.TempDir(), "queue"), Options{})
	if err != nil || entries == 0 {
		return q
	}
	message := strings.Repeat("0123456789 0123456789 0123456789\r\n", 56) // 1.9 KB
	id, err := q.Put(b.Context(), to("b@example.org"), strings.NewReader(message))
	if err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile(q.path(id))
	if err != nil {
		b.Fatal(err)
	}
	for range entries - 1 {
		id, err := q.newID()
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(q.path(id), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	settleDisk(b, q.entries)
	return q
}

func settleDisk(b *testing.B, folder string) {
	b.Helper()
	if err := syncFolder(folder); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkPut(b *testing.B) {
	for _, there := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("among=%d", there), func(b *testing.B) {
			q := benchQueue(b, there)
			message := strings.Repeat("0123456789 0123456789 0123456789\r\n", 56)
			for b.Loop() {
				if _, err := q.Put(b.Context(), to("b@example.org"), strings.NewReader(message)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The cost per entry must not depend on how many there are.
func BenchmarkList(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			q := benchQueue(b, n)
			for b.Loop() {
				got := 0
				for range q.List(b.Context()) {
					got++
				}
				if got != n {
					b.Fatalf("%d entries", got)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}

func BenchmarkDrain(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				q := benchQueue(b, n)
				b.StartTimer()
				sum, err := q.Drain(b.Context(), null{}, DrainOptions{Once: true, PerDestination: 20})
				if err != nil || sum.Delivered != n {
					b.Fatal(sum, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}
