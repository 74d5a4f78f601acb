// Command oauthbench measures the authorization server of letterlockd: grants and
// introspections a second, on all cores and on one, and logins by OAUTHBEARER at a real
// Dovecot that asks letterlockd about each token, beside a Dovecot that checks signed tokens
// by itself (introspection_mode = local) and can therefore not know of a revocation.
//
// Everything is in one run and in turns: ratios count, not seconds; the machine's load
// stands in the output. Before the clock starts it is checked that a good token is taken
// and a forged one is not, and afterwards how long a revoked one lives on.
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
	"strings"
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
	most   int           // answers in one measurement
	tokens int           // in force, asked about in turns
	pace   float64       // questions a second that are offered when latency is measured
	only   string
}

func main() {
	o := order{}
	flag.StringVar(&o.daemon, "letterlockd", "bin/letterlockd", "the `binary` to measure")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each is measured, in turns")
	flag.IntVar(&o.conns, "conns", 16, "connections, each with one question at a time")
	flag.DurationVar(&o.span, "time", 2*time.Second, "how long one measurement takes")
	flag.IntVar(&o.most, "requests", 1_000_000, "answers at most in one measurement")
	flag.IntVar(&o.tokens, "tokens", 300, "tokens in force, asked about in turns")
	flag.Float64Var(&o.pace, "pace", 10_000, "questions a second that are offered to one core when latency is measured, or 7/10 of what it answered just before if that is less")
	flag.StringVar(&o.only, "only", "", "measure only what has this `text` in its name")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "oauthbench:", err)
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
	fmt.Printf("%s, Dovecot %s, %d cores, load average %s\n", runtime.Version(), w.dovecots[0].Version, runtime.NumCPU(), load.Average())
	fmt.Printf("%d rounds of %v each in turns, %d connections, %d tokens in force\n", o.rounds, o.span, o.conns, o.tokens)
	contests := slices.DeleteFunc(w.contests(), func(c contest) bool { return !strings.Contains(c.name, o.only) })
	for _, c := range contests {
		if err := w.check(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	fmt.Println("checked: each takes a good token; each that judges tokens refuses a forged one")
	results := map[string][]result{}
	for round := range o.rounds {
		for i := range contests {
			c := contests[(i+round)%len(contests)]
			r, err := w.measure(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			results[c.name] = append(results[c.name], r)
			if !c.paced {
				continue
			}
			if r, err = w.pace(ctx, c, min(o.pace, 0.7*r.Rate())); err != nil {
				return fmt.Errorf("%s at a steady rate: %w", c.name, err)
			}
			results[c.name+steady] = append(results[c.name+steady], r)
		}
	}
	w.report(contests, results)
	return w.revocation(ctx)
}

// A result is how one measurement went.
type result struct {
	load.Result
	cpu     time.Duration // of letterlockd
	offered float64       // questions a second; 0: as many as were answered
	late    time.Duration // how far the sender was behind itself, see load.Paced
}

// steady is behind the name of a contest at a steady rate.
const steady = ", steady"

// A contest is one kind of question.
type contest struct {
	name   string
	worker func(ctx context.Context, n int) (load.Worker, error)
	// forged is the worker with a token that nobody issued; nil: it judges none.
	forged func(ctx context.Context, n int) (load.Worker, error)
	pid    int // letterlockd, when it has a part; 0: none
	// paced: measured at a steady rate, too. A connection that asks again as soon as it has
	// its answer keeps the server from ever being idle, and its latencies tell how many such
	// connections there are and how they share it; a mail server asks when somebody comes.
	paced bool
}

func (w *world) check(ctx context.Context, c contest) error {
	once := load.Bounds{Conns: 1, Span: time.Minute, Most: 1}
	if _, err := load.Run(ctx, once, c.worker); err != nil {
		return err
	}
	if c.forged == nil {
		return nil
	}
	if _, err := load.Run(ctx, once, c.forged); !errors.Is(err, errRefused) {
		return fmt.Errorf("a forged token: %v, want a refusal", err)
	}
	return nil
}

func (w *world) measure(ctx context.Context, c contest) (result, error) {
	return c.spent(func() (r result, err error) {
		r.Result, err = load.Run(ctx, load.Bounds{Conns: w.o.conns, Span: w.o.span, Most: w.o.most}, c.worker)
		return r, err
	})
}

func (w *world) pace(ctx context.Context, c contest, rate float64) (result, error) {
	return c.spent(func() (result, error) {
		r, late, err := load.Paced(ctx, load.Bounds{Conns: w.o.conns, Span: w.o.span, Most: w.o.most}, rate, c.worker)
		return result{Result: r, offered: rate, late: late}, err
	})
}

// spent adds what CPU time letterlockd took.
func (c contest) spent(do func() (result, error)) (r result, err error) {
	if c.pid == 0 {
		return do()
	}
	before, err := load.CPU(c.pid)
	if err != nil {
		return r, err
	}
	if r, err = do(); err != nil {
		return r, err
	}
	after, err := load.CPU(c.pid)
	r.cpu = after - before
	return r, err
}

func (w *world) report(contests []contest, results map[string][]result) {
	fmt.Printf("\nmedians of %d rounds (least and most a second)\n%-52s %10s %19s %10s %10s %16s\n", w.o.rounds, "", "a second", "", "p50", "p99", "letterlockd, CPU")
	for _, c := range contests {
		c.report(c.name, results[c.name])
	}
	fmt.Printf("\nthe same at a steady rate, latency from when a question was due\n")
	for _, c := range contests {
		if all := results[c.name+steady]; len(all) > 0 {
			c.report(c.name, all)
			fmt.Printf("%-52s %10.0f a second offered; the sender was late by %s\n", "", middle(figures(all, func(r result) float64 { return r.offered })),
				short(middle(figures(all, func(r result) float64 { return float64(r.late) }))))
		}
	}
	fmt.Printf("load average at the end %s\n", load.Average())
}

func (c contest) report(name string, all []result) {
	rates := figures(all, func(r result) float64 { return r.Rate() })
	cpu := ""
	if c.pid != 0 {
		cpu = fmt.Sprintf("%.0f µs each", middle(figures(all, func(r result) float64 { return float64(r.cpu.Microseconds()) / float64(len(r.Each)) })))
	}
	fmt.Printf("%-52s %10.0f %19s %10s %10s %16s\n", name, middle(rates), fmt.Sprintf("(%.0f … %.0f)", rates[0], rates[len(rates)-1]),
		short(middle(figures(all, func(r result) float64 { return float64(r.At(50)) }))), short(middle(figures(all, func(r result) float64 { return float64(r.At(99)) }))), cpu)
}

func short(nanos float64) string { return time.Duration(nanos).Round(10 * time.Microsecond).String() }

// figures are sorted.
func figures(all []result, of func(result) float64) []float64 {
	some := make([]float64, len(all))
	for i, r := range all {
		some[i] = of(r)
	}
	slices.Sort(some)
	return some
}

func middle(sorted []float64) float64 { return sorted[len(sorted)/2] }
