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
}

func main() {
	o := order{}
	flag.StringVar(&o.daemon, "letterlockd", "bin/letterlockd", "the `binary` to measure")
	flag.IntVar(&o.devices, "devices", 100, "app passwords that sign in")
	flag.IntVar(&o.sessions, "sessions", 500, "sessions that come back after a restart")
	flag.IntVar(&o.conns, "conns", 16, "connections, each with one question at a time, as Postfix has them")
	flag.IntVar(&o.known, "known", 20_000, "sign-ins of known devices")
	flag.IntVar(&o.peer, "peer", 100, "sign-ins at Dovecot")
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
	fmt.Printf("%-34s %-26s %10s %10s %10s %10s\n", "", "", "sign-ins", "a second", "p50", "p99")
	some := w.devices[:min(w.o.peer, len(w.devices))]
	for _, phase := range []struct {
		name string
		ours []device
		peer []device
		want string
	}{
		{"first", w.devices, some, "OK"},
		{"known", repeat(w.devices, w.o.known), repeat(w.devices[:min(10, len(w.devices))], w.o.peer), "OK"},
		// Dovecot holds each refusal back for half a second, whatever it cost.
		{"wrong selector", strangers(w.o.known), strangers(w.o.peer), "FAIL"},
	} {
		if phase.name == "known" {
			if _, err := ask(w.single, w.devices, w.o.conns, "OK"); err != nil {
				return err
			}
		}
		if err := w.row(phase.name, "letterlockd", w.ours, phase.ours, phase.want); err != nil {
			return err
		}
		if phase.name != "first" {
			if err := w.row(phase.name, "letterlockd, one core", w.single, phase.ours, phase.want); err != nil {
				return err
			}
		}
		if err := w.row(phase.name, "Dovecot, SQL", w.dovecot, phase.peer, phase.want); err != nil {
			return err
		}
		if phase.name != "first" {
			if err := w.row(phase.name, "Dovecot, SQL and its cache", w.caching, phase.peer, phase.want); err != nil {
				return err
			}
		}
	}
	w.memory()
	return w.restart()
}

// row asks once for each device and prints how it went.
func (w *world) row(phase, name string, p place, devices []device, want string) error {
	r, err := ask(p, devices, w.o.conns, want)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", phase, name, err)
	}
	fmt.Printf("%-34s %-26s %10d %10.0f %10s %10s\n", phase, name, len(devices), r.rate(), r.at(50), r.at(99))
	return nil
}

// repeat takes devices in turns.
func repeat(devices []device, n int) []device {
	all := make([]device, n)
	for i := range all {
		all[i] = devices[i%len(devices)]
	}
	return all
}
