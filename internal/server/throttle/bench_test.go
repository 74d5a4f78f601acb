package throttle

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
)

// BenchmarkGood is a sign-in from a known network: the way of nearly all.
func BenchmarkGood(b *testing.B) {
	throttle := New(Options{})
	a := Attempt{Remote: netip.MustParseAddr("192.0.2.1"), Account: "ann@example.org", Fingerprint: "0123456789abcdef0123456789abcdef"}
	b.ReportAllocs()
	for b.Loop() {
		if throttle.Ask(b.Context(), a).Refuse {
			b.Fatal("refused")
		}
		throttle.Tell(b.Context(), a, true)
	}
}

// BenchmarkSpray is a guess of its own address, account and secret each, with tables
// long full: run it with -benchtime 1000000x for the bytes after a million addresses.
func BenchmarkSpray(b *testing.B) {
	throttle := New(Options{})
	before := heap()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		throttle.Ask(b.Context(), sprayed(n))
		throttle.Tell(b.Context(), sprayed(n), false)
		n++
	}
	b.ReportMetric(float64(heap()-before), "heap-bytes")
	runtime.KeepAlive(throttle)
}

// BenchmarkList looks an address up in a list of 100,000 networks.
func BenchmarkList(b *testing.B) {
	var text strings.Builder
	for n := range 100_000 {
		fmt.Fprintf(&text, "%d.%d.%d.0/25\n", 1+n>>16, n>>8&255, n&255)
	}
	list, err := ParseList("many", strings.NewReader(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	at := netip.MustParseAddr("1.77.5.200")
	b.ReportAllocs()
	for b.Loop() {
		if list.Contains(at) {
			b.Fatal("listed")
		}
	}
}

// BenchmarkExchange is one exchange with the store amid a spray that fills the list of what
// is to be told, most of which stays here: a single mistake is nobody else's business.
func BenchmarkExchange(b *testing.B) {
	throttle := New(Options{Store: newFakeStore()})
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for range 30_000 {
			throttle.Tell(b.Context(), sprayed(n), false)
			n++
		}
		b.StartTimer()
		throttle.exchange(b.Context())
	}
}
