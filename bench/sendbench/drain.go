package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A drainer empties its queue into the sink.
type drainer struct {
	name   string
	count  int
	fill   func(ctx context.Context, n int) error
	start  func(ctx context.Context) (pid int, stop func() error, err error)
	rounds int

	rates       []float64
	connections int
	mostOpen    int
	memory      int64 // KiB, the most that all its processes had
}

func drain(ctx context.Context, w *world) error {
	h, err := w.home("drain")
	if err != nil {
		return err
	}
	field := []*drainer{
		{name: "letterlock queue run", count: w.messages, rounds: 3, fill: w.fillLetterlock(h), start: w.drainLetterlock(h)},
		{name: "postfix", count: w.messages, rounds: 3, fill: w.fillPostfix, start: w.drainPostfix},
		{name: "dma -q", count: w.messages / 5, rounds: 1, fill: w.fillDMA, start: w.drainDMA},
		{name: "nullmailer-send", count: w.messages / 10, rounds: 1, fill: w.fillNullmailer, start: w.drainNullmailer},
	}
	for round := range 3 {
		for _, d := range field {
			if round < d.rounds {
				if err := d.once(ctx, w); err != nil {
					log := w.postfix.Log()
					return fmt.Errorf("%s: %w; Postfix logged last: %q", d.name, err, log[max(0, len(log)-10):])
				}
			}
		}
	}
	idle, err := w.idleAgent(ctx, h)
	if err != nil {
		return fmt.Errorf("weigh the agent: %w", err)
	}
	fmt.Println("a queue to one server with STARTTLS and AUTH, from the first connection to the last message")
	fmt.Printf("%-24s %9s %14s %14s %12s %8s %12s\n", "queue", "messages", "best msg/s", "median msg/s", "connections", "at once", "peak PSS MB")
	for _, d := range field {
		slices.Sort(d.rates)
		memory := "-" // its processes leave their parent
		if d.memory > 0 {
			memory = fmt.Sprintf("%.1f", float64(d.memory)/1024)
		}
		fmt.Printf("%-24s %9d %14.0f %14.0f %12d %8d %12s\n", d.name, d.count, d.rates[len(d.rates)-1], d.rates[len(d.rates)/2], d.connections, d.mostOpen, memory)
	}
	own, peer := field[0].rates, field[1].rates
	fmt.Printf("letterlock: %.2fx postfix by medians, %.2fx by the best (goal 1.3)\n", own[len(own)/2]/peer[len(peer)/2], own[len(own)-1]/peer[len(peer)-1])
	fmt.Printf("letterlock agent, started, queue empty: PSS %.1f MB\n", float64(idle)/1024)
	return nil
}

func (d *drainer) once(ctx context.Context, w *world) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("the drain takes too long"))
	defer cancel()
	if err := d.fill(ctx, d.count); err != nil {
		return err
	}
	w.sink.reset()
	pid, stop, err := d.start(ctx)
	if err != nil {
		return err
	}
	weighed, enough := make(chan int64), make(chan struct{})
	go func() { weighed <- weigh(pid, enough) }()
	err = w.sink.wait(ctx, d.count)
	close(enough)
	d.memory = max(d.memory, <-weighed)
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	if w.sink.messages != d.count {
		return fmt.Errorf("%d messages came, %d were sent", w.sink.messages, d.count)
	}
	d.rates = append(d.rates, float64(d.count)/w.sink.last.Sub(w.sink.first).Seconds())
	d.connections, d.mostOpen = w.sink.connections, w.sink.mostOpen
	return nil
}

// weigh samples the memory of a process and all its descendants, shared pages counted
// in parts, until enough is closed.
func weigh(pid int, enough <-chan struct{}) int64 {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var most int64
	for {
		sum := int64(0)
		for _, p := range family(pid) {
			sum += pss(p)
		}
		most = max(most, sum)
		select {
		case <-tick.C:
		case <-enough:
			return most
		}
	}
}

// family is a process and its descendants.
func family(pid int) []int {
	parents := map[int]int{}
	folders, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range folders {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		words := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		parents[id], _ = strconv.Atoi(words[1])
	}
	members := []int{pid}
	for i := 0; i < len(members); i++ {
		for child, parent := range parents {
			if parent == members[i] {
				members = append(members, child)
			}
		}
	}
	return members
}

func pss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\nPss:")
	words := strings.Fields(rest)
	if len(words) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(words[0], 10, 64)
	return kib
}

// times runs a command n times with the message on standard input.
func (w *world) times(ctx context.Context, n int, env []string, argv ...string) error {
	c := &contender{argv: argv, env: env}
	for range n {
		if err := c.once(ctx, w.message, false); err != nil {
			return err
		}
	}
	return nil
}

// start runs a command until it ends by itself (end nil) or until end.
func start(ctx context.Context, env []string, as *syscall.Credential, end os.Signal, argv ...string) (int, func() error, error) {
	said := &strings.Builder{}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, said, said
	cmd.WaitDelay = time.Second // dma's children keep the pipe
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	return cmd.Process.Pid, func() error {
		if end != nil {
			_ = cmd.Process.Signal(end)
		}
		err := cmd.Wait()
		if err != nil && end == nil && !errors.Is(err, exec.ErrWaitDelay) {
			return fmt.Errorf("%v: %w: %s", argv, err, said)
		}
		return nil
	}, nil
}

func (w *world) fillLetterlock(h home) func(context.Context, int) error {
	return func(ctx context.Context, n int) error {
		return w.times(ctx, n, h.env(w.ca.File, false), w.binary, "sendmail", "-odq", recipient)
	}
}

func (w *world) drainLetterlock(h home) func(context.Context) (int, func() error, error) {
	return func(ctx context.Context) (int, func() error, error) {
		return start(ctx, h.env(w.ca.File, false), nil, nil, w.binary, "queue", "run")
	}
}

func (w *world) fillPostfix(ctx context.Context, n int) error {
	if err := w.deferPostfix(ctx, true); err != nil {
		return err
	}
	if err := w.times(ctx, n, w.postfixEnv(), "/usr/sbin/sendmail", "-f", user, recipient); err != nil {
		return err
	}
	return poll(ctx, func() bool { return count(filepath.Join(w.postfix.Dir, "queue", "deferred")) == n })
}

// count counts the files below a folder.
func count(folder string) int {
	n := 0
	_ = filepath.WalkDir(folder, func(_ string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			n++
		}
		return nil
	})
	return n
}

func (w *world) drainPostfix(ctx context.Context) (int, func() error, error) {
	if err := w.deferPostfix(ctx, false); err != nil {
		return 0, nil, err
	}
	flush := exec.CommandContext(ctx, "postqueue", "-f")
	flush.Env = w.postfixEnv()
	out, err := flush.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("flush postfix: %w: %s", err, out)
	}
	return w.postfix.Pid(), func() error { return nil }, err
}

func (w *world) fillDMA(ctx context.Context, n int) error {
	if err := clear(dmaSpool); err != nil {
		return err
	}
	return w.times(ctx, n, plainEnv(), "/usr/sbin/dma", "-f", user, recipient)
}

func (w *world) drainDMA(ctx context.Context) (int, func() error, error) {
	return start(ctx, plainEnv(), nil, nil, "/usr/sbin/dma", "-q1")
}

func (w *world) fillNullmailer(ctx context.Context, n int) error {
	if err := clear(nullmailerSpool + "/queue"); err != nil {
		return err
	}
	return w.times(ctx, n, plainEnv(), "/usr/sbin/nullmailer-sendmail", "-f", user, recipient)
}

func (w *world) drainNullmailer(ctx context.Context) (int, func() error, error) {
	mail, err := lookUp("mail")
	if err != nil {
		return 0, nil, err
	}
	as := &syscall.Credential{Uid: uint32(mail.uid), Gid: uint32(mail.gid)}
	return start(ctx, plainEnv(), as, syscall.SIGTERM, "/usr/sbin/nullmailer-send")
}

// clear removes the files of a folder.
func clear(folder string) error {
	entries, err := os.ReadDir(folder)
	for _, entry := range entries {
		if !entry.IsDir() {
			err = errors.Join(err, os.Remove(filepath.Join(folder, entry.Name())))
		}
	}
	return err
}

func (w *world) idleAgent(ctx context.Context, h home) (int64, error) {
	cmd := exec.CommandContext(ctx, w.binary, "agent")
	cmd.Env = h.env(w.ca.File, false)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // ended by us
	}()
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := poll(bounded, func() bool {
		ask := exec.CommandContext(bounded, w.binary, "agent", "--status")
		ask.Env = cmd.Env
		return ask.Run() == nil
	})
	return pss(cmd.Process.Pid), err
}
