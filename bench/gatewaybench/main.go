// Command gatewaybench measures the web mail gateway of letterlockd beside nginx alone and
// Apache with mod_auth_openidc, all three in front of one nginx that has a page of 2 KB and
// one of 1 MB. Everything is in one run and in turns, so that a busy machine hurts all
// alike: ratios count, the machine's load stands in the output.
//
// Each does its whole work: somebody has signed in for real at an identity provider (npm
// oidc-provider), the session is looked up at the server, and the upstream gets a token with
// each request. That, and that nobody comes through without the cookie, is checked before
// the clock starts; status and length of each answer are checked while it runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/letterlock-mail/letterlock/bench/load"
)

// An order is what to measure.
type order struct {
	daemon string
	rounds int
	conns  int
	span   time.Duration // of one measurement
	most   int           // requests in one measurement
}

func main() {
	o := order{}
	flag.StringVar(&o.daemon, "letterlockd", "bin/letterlockd", "the `binary` to measure")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each is measured, in turns")
	flag.IntVar(&o.conns, "conns", 32, "connections, each with one request at a time")
	flag.DurationVar(&o.span, "time", 3*time.Second, "how long one measurement takes")
	flag.IntVar(&o.most, "requests", 1_000_000, "requests at most in one measurement")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "gatewaybench:", err)
		os.Exit(1)
	}
}

func run(o order) (err error) {
	// Who is interrupted still stops the servers that it started.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	w, err := newWorld(ctx, o)
	if w != nil {
		defer func() { err = errors.Join(err, w.close()) }()
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s, %s, %d cores, load average %s\n", runtime.Version(), w.versions, runtime.NumCPU(), load.Average())
	fmt.Printf("%d rounds of %v each in turns, %d connections; plain HTTP, TLS ends before it\n", o.rounds, o.span, o.conns)
	for _, p := range w.peers {
		if err := w.check(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Printf("checked: %s: %s\n", p.name, p.proof)
	}
	for _, page := range w.pages {
		if err := w.contest(ctx, page); err != nil {
			return err
		}
	}
	for _, p := range w.peers { // the sessions went on until the end
		if err := w.check(ctx, p); err != nil {
			return fmt.Errorf("%s, after the run: %w", p.name, err)
		}
	}
	fmt.Printf("\nload average at the end %s\n", load.Average())
	return nil
}

// contest measures all of them with one page, round by round, each round in another order.
func (w *world) contest(ctx context.Context, page page) error {
	results := map[string][]result{}
	for round := range w.o.rounds {
		for i := range w.peers {
			p := w.peers[(i+round)%len(w.peers)]
			if round == 0 {
				// Connections are opened and caches are filled before the clock starts.
				if _, err := w.load(ctx, p, page, w.o.span/4); err != nil {
					return fmt.Errorf("%s, %s: %w", p.name, page.path, err)
				}
			}
			r, err := w.load(ctx, p, page, w.o.span)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", p.name, page.path, err)
			}
			results[p.name] = append(results[p.name], r)
		}
	}
	fmt.Printf("\n%s, %d bytes: medians of %d rounds (least and most requests a second)\n", page.path, len(page.body), w.o.rounds)
	fmt.Printf("%-28s %10s %19s %10s %10s %10s %14s\n", "", "a second", "", "MB/s", "p50", "p99", "CPU a request")
	for _, p := range w.peers {
		all := results[p.name]
		rate := median(all, rateOf)
		fmt.Printf("%-28s %10.0f %19s %10.1f %10s %10s %11.0f µs\n", p.name, rate,
			fmt.Sprintf("(%.0f … %.0f)", slices.Min(figures(all, rateOf)), slices.Max(figures(all, rateOf))), rate*float64(len(page.body))/1e6,
			short(median(all, func(r result) float64 { return float64(r.At(50)) })), short(median(all, func(r result) float64 { return float64(r.At(99)) })),
			median(all, result.cpuEach))
	}
	for _, p := range w.peers[1:] {
		// Of the same round, so that both had the same neighbours on the machine.
		ratios := make([]float64, w.o.rounds)
		for i := range ratios {
			ratios[i] = results[w.peers[0].name][i].Rate() / results[p.name][i].Rate()
		}
		slices.Sort(ratios)
		// The second figure is the one that neighbours on the machine do not move: who has
		// more threads gets more of a machine that is busy, whatever each request costs.
		fmt.Printf("gateway / %-28s %.2f in requests a second, %.2f in requests for a second of the server's CPU\n", p.name, ratios[len(ratios)/2],
			median(results[p.name], result.cpuEach)/median(results[w.peers[0].name], result.cpuEach))
	}
	return nil
}

func short(nanos float64) string { return time.Duration(nanos).Round(10 * time.Microsecond).String() }

func figures(all []result, of func(result) float64) []float64 {
	some := make([]float64, len(all))
	for i, r := range all {
		some[i] = of(r)
	}
	return some
}

func median(all []result, of func(result) float64) float64 {
	some := figures(all, of)
	slices.Sort(some)
	return some[len(some)/2]
}

func rateOf(r result) float64 { return r.Rate() }
