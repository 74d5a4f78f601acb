// Command sendbench measures the sending side beside msmtp, nullmailer, dma and
// Postfix, as whole processes, in one run. The contenders take turns, so that a busy
// machine hurts all alike; ratios count, not milliseconds. bench/send starts it in a
// mount namespace of its own, where the peers find their folders.
//
//	drain     a queue to a server with STARTTLS and AUTH: rate, connections, memory
//	          (first, because Postfix's queue is empty then)
//	enqueue   until sendmail returns 0, and what was synced by then
//	direct    one message to a server with STARTTLS and a token, seen through
//	scale     the cost of an entry when there are many
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "letterlock", "", "the binary to measure")
	flag.StringVar(&o.work, "work", "", "an empty folder on the disk to measure on")
	flag.IntVar(&o.rounds, "rounds", 31, "rounds of enqueue and direct")
	flag.IntVar(&o.messages, "messages", 1000, "messages of a drain")
	flag.IntVar(&o.entries, "entries", 100_000, "entries of the largest queue")
	flag.StringVar(&o.only, "only", "", "only these parts, as in enqueue,drain")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sendbench:", err)
		os.Exit(1)
	}
}

type options struct {
	binary, work, only        string
	rounds, messages, entries int
}

func run(ctx context.Context, o options) error {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	fmt.Printf("whole processes, interleaved; %s, %d cores, load at the start %s", runtime.Version(), runtime.NumCPU(), load)
	for _, part := range []struct {
		name string
		do   func(context.Context, *world) error
	}{{"drain", drain}, {"enqueue", enqueue}, {"direct", direct}, {"scale", scale}} {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), part.name) {
			continue
		}
		fmt.Println()
		if err := part.do(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// A contender is one command in a race.
type contender struct {
	name  string
	argv  []string
	env   []string
	after func() error // run when the clock has stopped: waits until all is quiet again
	note  string

	wall, cpu []time.Duration
}

// race lets each contender run once a round; the first round is not counted.
func race(ctx context.Context, rounds int, message string, field []*contender) error {
	for round := range rounds + 1 {
		for _, c := range field {
			if err := c.once(ctx, message, round > 0); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

func (c *contender) once(ctx context.Context, message string, count bool) error {
	stdin, err := os.Open(message)
	if err != nil {
		return err
	}
	defer stdin.Close()
	said, err := os.CreateTemp("", "sendbench-")
	if err != nil {
		return err
	}
	defer os.Remove(said.Name())
	defer said.Close()
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	// A file and no pipe: a process that is left behind would hold it open.
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.env, stdin, said, said
	begin := time.Now()
	err = cmd.Run()
	wall := time.Since(begin)
	if err != nil {
		text, readErr := os.ReadFile(said.Name())
		return errors.Join(fmt.Errorf("%w: %s", err, text), readErr)
	}
	if count {
		c.wall = append(c.wall, wall)
		c.cpu = append(c.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	if c.after == nil {
		return nil
	}
	return c.after()
}

func report(field []*contender) {
	fmt.Printf("%-44s %8s %8s %8s %8s  %s\n", "command", "min ms", "p50 ms", "p90 ms", "cpu ms", "")
	for _, c := range field {
		fmt.Printf("%-44s %8.2f %8.2f %8.2f %8.2f  %s\n", c.name, ms(quantile(c.wall, 0)), ms(quantile(c.wall, 0.5)), ms(quantile(c.wall, 0.9)), ms(quantile(c.cpu, 0.5)), c.note)
	}
}

func find(field []*contender, name string) time.Duration {
	for _, c := range field {
		if c.name == name {
			return quantile(c.wall, 0.5)
		}
	}
	return 0
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func quantile(d []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(float64(len(sorted)-1)*q)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
