package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// enqueue measures until sendmail returns 0.
func enqueue(ctx context.Context, w *world) error {
	if err := w.deferPostfix(ctx, true); err != nil {
		return err
	}
	only, err1 := w.home("only")
	alone, err2 := w.home("alone")
	served, err3 := w.home("served")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	stop, err := w.startAgent(ctx, served)
	if err != nil {
		return err
	}
	defer stop()
	w.sink.reset()
	sent := 0
	arrived := func(h home) func() error {
		return func() error {
			sent++
			bounded, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return errors.Join(w.sink.wait(bounded, sent), untilEmpty(bounded, h.entries()))
		}
	}
	field := []*contender{
		{name: "true", argv: []string{"/bin/true"}, env: plainEnv()},
		{name: "go hello world", argv: []string{w.hello}, env: plainEnv()},
		{name: "letterlock sendmail, queue only (-odq)", argv: []string{w.binary, "sendmail", "-odq", recipient}, env: only.env(w.ca.File, false)},
		{name: "letterlock sendmail, agent sends", argv: []string{w.binary, "sendmail", recipient}, env: served.env(w.ca.File, false), after: arrived(served)},
		{name: "letterlock sendmail, starts sending itself", argv: []string{w.binary, "sendmail", recipient}, env: alone.env(w.ca.File, false), after: arrived(alone)},
		{name: "dma, queue only (DEFER)", argv: []string{"/usr/sbin/dma", "-f", user, recipient}, env: plainEnv()},
		{name: "nullmailer sendmail, queue only", argv: []string{"/usr/sbin/nullmailer-sendmail", "-f", user, recipient}, env: plainEnv()},
		{name: "postfix sendmail, delivery deferred", argv: []string{"/usr/sbin/sendmail", "-f", user, recipient}, env: w.postfixEnv()},
	}
	for i, c := range field[2:] {
		if c.after != nil {
			c.note = field[1+i].note // the same steps; under strace the sender left behind would be waited for
		} else if c.note, err = synced(ctx, w, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if err := race(ctx, w.rounds, w.message, field); err != nil {
		return err
	}
	fmt.Printf("until sendmail returns 0, one message of 1.9 KB, %d rounds; at the right what it had synced by then (strace)\n", w.rounds)
	report(field)
	own, itself := find(field, field[3].name), find(field, field[4].name)
	fmt.Printf("letterlock sendmail (agent sends; starts sending itself): %.2fx, %.2fx dma (goal 1.5); %.2fx, %.2fx nullmailer; %.2fx, %.2fx postfix (goals below 1)\n",
		ratio(own, find(field, field[5].name)), ratio(itself, find(field, field[5].name)),
		ratio(own, find(field, field[6].name)), ratio(itself, find(field, field[6].name)),
		ratio(own, find(field, field[7].name)), ratio(itself, find(field, field[7].name)))
	return nil
}

// startAgent runs an agent until stop is called.
func (w *world) startAgent(ctx context.Context, h home) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, w.binary, "agent")
	cmd.Env = h.env(w.ca.File, false)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	stop = func() {
		cancel()
		_ = cmd.Wait() // its context ended it
	}
	bounded, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	err = poll(bounded, func() bool {
		ask := exec.CommandContext(bounded, w.binary, "agent", "--status")
		ask.Env = h.env(w.ca.File, false)
		return ask.Run() == nil
	})
	if err != nil {
		stop()
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	return stop, nil
}

// untilEmpty waits until a folder has no files left.
func untilEmpty(ctx context.Context, folder string) error {
	return poll(ctx, func() bool {
		left, err := os.ReadDir(folder)
		return err == nil && len(left) == 0 || errors.Is(err, fs.ErrNotExist)
	})
}

func poll(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// synced runs the command once under strace and says what it and its helpers synced
// before it returned.
func synced(ctx context.Context, w *world, c *contender) (string, error) {
	if err := c.once(ctx, w.message, false); err != nil { // makes the folders of the queue
		return "", err
	}
	trace := filepath.Join(w.work, "trace")
	traced := *c
	traced.argv = append([]string{"strace", "-f", "-y", "-o", trace, "-e", "trace=fsync,fdatasync,syncfs,sync"}, c.argv...)
	if err := traced.once(ctx, w.message, false); err != nil {
		return "", err
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		return "", err
	}
	files, folders := 0, 0
	for _, match := range regexp.MustCompile(`(?m)(fsync|fdatasync)\(\d+<([^>]*)>`).FindAllStringSubmatch(string(text), -1) {
		if info, err := os.Stat(match[2]); err == nil && info.IsDir() {
			folders++
		} else {
			files++
		}
	}
	return fmt.Sprintf("files synced: %d, folders: %d", files, folders), nil
}
