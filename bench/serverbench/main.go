// Command serverbench measures how letterlockd answers sign-ins beside Dovecot's own SQL
// passdb, which reads the same app passwords from the view file: both are asked in
// Dovecot's authentication protocol, in one run, so that a busy machine hurts both alike.
// Ratios count, not seconds; the machine's load stands in the output.
//
// It tells of a first sign-in (one Argon2id hash), of one that is known, of one whose
// selector nobody has, of a restart after which everybody comes back, and of memory, with
// few and with many app passwords in the database.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/bench/load"
)

// An order is what to measure.
type order struct {
	daemon   string
	devices  int   // app passwords that sign in
	fillers  []int // app passwords there are in all, one run each
	sessions int   // that come back after a restart
	conns    int   // as Postfix has smtpd processes
	known    int   // sign-ins of known devices
	peer     int   // sign-ins at Dovecot, each of which is a hash
	pace     int   // sign-ins a second that are offered when latency is measured
	only     string
}

func main() {
	o := order{}
	flag.StringVar(&o.daemon, "letterlockd", "bin/letterlockd", "the `binary` to measure")
	flag.IntVar(&o.devices, "devices", 100, "app passwords that sign in")
	flag.IntVar(&o.sessions, "sessions", 500, "sessions that come back after a restart")
	flag.IntVar(&o.conns, "conns", 16, "connections, each with one question at a time, as Postfix has them")
	flag.IntVar(&o.known, "known", 20_000, "sign-ins of known devices")
	flag.IntVar(&o.peer, "peer", 100, "sign-ins at Dovecot")
	flag.IntVar(&o.pace, "pace", 10_000, "sign-ins a second that are offered when latency is measured, or 7/10 of the rate on one core if that is less")
	flag.StringVar(&o.only, "only", "", "the `phase` to measure, known or wrong selector; empty: all, and memory and a restart")
	fillers := flag.String("credentials", "1000", "app passwords in the database, `numbers` with commas: a run each")
	flag.Parse()
	err := errors.New("-credentials wants numbers")
	for text := range strings.SplitSeq(*fillers, ",") {
		var n int
		if n, err = strconv.Atoi(text); err != nil {
			break
		}
		o.fillers = append(o.fillers, n)
	}
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "serverbench:", err)
		os.Exit(1)
	}
}

func run(o order) error {
	version, err := exec.Command("dovecot", "--version").Output()
	if err != nil {
		return fmt.Errorf("ask for Dovecot's version: %w", err)
	}
	fmt.Printf("%s, Dovecot %s, %d cores, load average %s\n", runtime.Version(), strings.TrimSpace(string(version)), runtime.NumCPU(), loadAverage())
	for _, credentials := range o.fillers {
		w, err := newWorld(context.Background(), o, credentials)
		if err == nil {
			err = w.measure()
		}
		if w != nil {
			err = errors.Join(err, w.close())
		}
		if err != nil {
			return err
		}
	}
	fmt.Printf("load average at the end %s\n", loadAverage())
	return nil
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// measure runs the contest. What is asked of letterlockd is asked of Dovecot right after.
func (w *world) measure() error {
	fmt.Printf("\n%d app passwords in the database, %d devices, %d connections\n", w.credentials, len(w.devices), w.o.conns)
	fmt.Printf("%-34s %-26s %10s %10s %10s %10s %18s\n", "", "", "sign-ins", "a second", "p50", "p99", "letterlockd's CPU")
	some := w.devices[:min(w.o.peer, len(w.devices))]
	for _, one := range []phase{
		{"first", w.devices, some, "OK"},
		{"known", repeat(w.devices, w.o.known), repeat(w.devices[:min(10, len(w.devices))], w.o.peer), "OK"},
		// Dovecot holds each refusal back for half a second, whatever it cost.
		{"wrong selector", strangers(w.o.known), strangers(w.o.peer), "FAIL"},
	} {
		if one.name != w.o.only && w.o.only != "" && one.name != "first" {
			continue
		}
		if err := w.phase(one); err != nil {
			return err
		}
	}
	if w.o.only != "" {
		return nil
	}
	w.memory()
	return w.restart()
}

// A phase is one kind of sign-in.
type phase struct {
	name       string
	ours, peer []device
	want       string
}

func (w *world) phase(one phase) error {
	first := one.name == "first"
	if one.name == "known" {
		if _, err := ask(w.single, w.devices, w.o.conns, "OK"); err != nil {
			return err
		}
	}
	if _, err := w.row(one, "letterlockd", w.ours, w.daemons["two.toml"].Pid(), one.ours); err != nil {
		return err
	}
	if !first {
		rate, err := w.row(one, "letterlockd, one core", w.single, w.daemons["one.toml"].Pid(), one.ours)
		if err == nil {
			err = w.paced(one, min(float64(w.o.pace), 0.7*rate))
		}
		if err != nil {
			return err
		}
	}
	if _, err := w.row(one, "Dovecot, SQL", w.dovecot, 0, one.peer); err != nil {
		return err
	}
	if !first {
		if _, err := w.row(one, "Dovecot, SQL and its cache", w.caching, 0, one.peer); err != nil {
			return err
		}
	}
	return nil
}

// row asks once for each device and prints how it went: each connection asks again as soon
// as it has its answer, so that these latencies tell how many connections there are, and
// how they share a server that is never idle.
func (w *world) row(one phase, name string, p place, pid int, devices []device) (rate float64, err error) {
	spent, err := cpu(pid)
	if err != nil {
		return 0, err
	}
	r, err := ask(p, devices, w.o.conns, one.want)
	if err != nil {
		return 0, fmt.Errorf("%s, %s: %w", one.name, name, err)
	}
	text := ""
	if pid != 0 {
		after, err := cpu(pid)
		if err != nil {
			return 0, err
		}
		text = each(after-spent, len(devices))
	}
	fmt.Printf("%-34s %-26s %10d %10.0f %10s %10s %18s\n", one.name, name, len(devices), r.rate(), r.at(50), r.at(99), text)
	return r.rate(), nil
}

// paced offers sign-ins at a steady rate to the daemon on one core: these are the latencies
// that a mail server sees, which asks when somebody comes and not when it was answered.
func (w *world) paced(one phase, rate float64) error {
	var next atomic.Int64
	pid := w.daemons["one.toml"].Pid()
	spent, err := cpu(pid)
	if err != nil {
		return err
	}
	// As long as the round before was asked: a few seconds.
	bounds := load.Bounds{Conns: w.o.conns, Span: time.Minute, Most: len(one.ours)}
	r, late, err := load.Paced(context.Background(), bounds, rate, func(context.Context, int) (load.Worker, error) {
		l, err := open(w.single)
		return steady{l, one.ours, &next, one.want}, err
	})
	if err != nil {
		return fmt.Errorf("%s at a steady rate: %w", one.name, err)
	}
	after, err := cpu(pid)
	if err != nil {
		return err
	}
	fmt.Printf("%-34s %-26s %10d %10.0f %10s %10s %18s  %.0f a second offered; the sender was late by %v\n", one.name+", steady rate", "letterlockd, one core", len(r.Each),
		r.Rate(), r.At(50).Round(10*time.Microsecond), r.At(99).Round(10*time.Microsecond), each(after-spent, len(r.Each)), rate, late.Round(10*time.Microsecond))
	return nil
}

func cpu(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	return load.CPU(pid)
}

func each(spent time.Duration, n int) string {
	return fmt.Sprintf("%d µs each", spent.Microseconds()/int64(n))
}

// repeat takes devices in turns.
func repeat(devices []device, n int) []device {
	all := make([]device, n)
	for i := range all {
		all[i] = devices[i%len(devices)]
	}
	return all
}
