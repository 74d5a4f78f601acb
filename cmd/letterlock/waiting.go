package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/client/agent"
	"github.com/letterlock-mail/letterlock/internal/client/intake"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

func (p *program) waitingFolder() (string, error) {
	paths, err := p.where()
	return filepath.Join(paths.State, "handover"), err
}

// somethingWaits looks without opening: most users never have such a queue.
func (p *program) somethingWaits() bool {
	folder, err := p.waitingFolder()
	if err != nil || p.system {
		return false
	}
	names, err := os.ReadDir(filepath.Join(folder, "entries"))
	if err != nil {
		return false
	}
	for _, name := range names {
		if !strings.HasPrefix(name.Name(), ".") {
			return true
		}
	}
	return false
}

// handOverWaiting hands over what is due, and returns when that is over.
func (p *program) handOverWaiting(ctx context.Context, notice func(queue.Event)) (queue.Summary, error) {
	if !p.somethingWaits() {
		return queue.Summary{}, nil
	}
	q, options, err := p.waitingDrain(nil)
	if err != nil {
		return queue.Summary{}, err
	}
	options.Once, options.Notice = true, notice
	sum, err := q.Drain(ctx, patient(intake.Carrier{Path: intake.SocketPath}), options)
	if errors.Is(err, queue.ErrBusy) {
		return queue.Summary{}, nil // the agent is at it
	}
	return sum, err
}

// waitingDrain is how that queue is drained: soon again, as the other end is on this
// machine, and no more at a time than the system serves of one user.
func (p *program) waitingDrain(notifier *agent.Notifier) (*queue.Queue, queue.DrainOptions, error) {
	q, err := p.openWaiting()
	if err != nil {
		return nil, queue.DrainOptions{}, err
	}
	conf, err := p.config()
	if errors.Is(err, fs.ErrPermission) {
		// handsOver took that for a user without accounts, so that mail is here: what
		// the configuration would say of it is not worth keeping it back.
		conf, err = &config.Config{}, nil
	}
	if err != nil {
		return nil, queue.DrainOptions{}, err
	}
	options, err := p.drainOptionsBy(conf, notifier)
	if err != nil {
		return nil, queue.DrainOptions{}, err
	}
	options.Schedule.Retries = intake.Retries()
	options.Parallel, options.PerDestination = 2, 2
	return q, options, nil
}

// How long a process that sendmail left behind waits for the system, and how often it
// looks at least.
const (
	lingerTime = time.Hour
	lingerLook = time.Minute
)

// linger tries for an hour to hand over what waits: an agent that is restarted is back
// by then. One process is enough; later calls of sendmail, an agent of the user or the
// timer do the rest.
func (p *program) linger(ctx context.Context) error {
	folder, err := p.waitingFolder()
	if err != nil {
		return err
	}
	until, tried := p.now().Add(lingerTime), false
	more := func() bool { return (!tried || p.now().Before(until) && ctx.Err() == nil) && p.somethingWaits() }
	return byOne(filepath.Join(folder, "linger.lock"), more, func() error {
		for tried = true; more(); {
			sum, err := p.handOverWaiting(ctx, nil)
			if err != nil || !p.somethingWaits() {
				return err
			}
			wait := lingerLook
			if !sum.Next.IsZero() {
				wait = min(max(sum.Next.Sub(p.now()), 0), lingerLook)
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		return nil
	})
}

// byOne does work in one process at a time while there is more of it. Who finds another
// at it leaves it to that one, which therefore looks again when it has let go of the
// lock: what came after its last look was left to it.
func byOne(path string, more func() bool, work func() error) error {
	once, cancel := context.WithCancel(context.Background())
	cancel() // asked once, not waited for
	for more() {
		lock, err := atomicfile.Acquire(once, path)
		if err != nil {
			return nil //nolint:nilerr // another one is at it
		}
		err = work()
		_ = lock.Release()
		if err != nil {
			return err
		}
	}
	return nil
}
