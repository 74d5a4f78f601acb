package main

import (
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// scale measures what an entry costs among few and among many: `letterlock queue
// list` as a whole process, and the queue's own part of a drain, with a carrier that
// takes everything at once.
func scale(ctx context.Context, w *world) error {
	fmt.Printf("cost of an entry, best of three, of 100,000 one (on the disk of %s)\n", w.work)
	fmt.Printf("%-12s %20s %20s %20s\n", "entries", "list us/entry", "drain us/entry", "put ms among them")
	for n := 1000; n <= w.entries; n *= 10 {
		var lists, drains, puts []time.Duration
		rounds := 3
		if n >= 100_000 {
			rounds = 1 // takes minutes
		}
		for round := range rounds {
			h, err := w.home(fmt.Sprintf("scale.%d.%d", n, round))
			if err != nil {
				return err
			}
			l, p, d, err := w.scaleOnce(ctx, h, n)
			if err != nil {
				return err
			}
			lists, puts, drains = append(lists, l), append(puts, p), append(drains, d)
			if err := os.RemoveAll(h.folder); err != nil {
				return err
			}
		}
		each := func(d []time.Duration) float64 { return float64(quantile(d, 0).Microseconds()) / float64(n) }
		fmt.Printf("%-12d %20.1f %20.1f %20.2f\n", n, each(lists), each(drains), ms(quantile(puts, 0)))
	}
	return nil
}

func (w *world) scaleOnce(ctx context.Context, h home, n int) (list, put, drained time.Duration, err error) {
	folder := filepath.Join(h.state(), "queue")
	q, err := queue.Open(folder, queue.Options{})
	if err != nil {
		return 0, 0, 0, err
	}
	message, err := os.ReadFile(w.message)
	if err != nil {
		return 0, 0, 0, err
	}
	envelope := queue.Envelope{From: user, To: []queue.Recipient{{Address: recipient}}, Account: user}
	id, err := q.Put(ctx, envelope, strings.NewReader(string(message)))
	if err != nil {
		return 0, 0, 0, err
	}
	if err := multiply(h.entries(), id, n); err != nil {
		return 0, 0, 0, err
	}
	begin := time.Now()
	cmd := exec.CommandContext(ctx, w.binary, "queue", "list", "--json")
	cmd.Env = h.env(w.ca.File, false)
	if err := cmd.Run(); err != nil {
		return 0, 0, 0, fmt.Errorf("list: %w", err)
	}
	list = time.Since(begin)
	begin = time.Now()
	if _, err := q.Put(ctx, envelope, strings.NewReader(string(message))); err != nil {
		return 0, 0, 0, err
	}
	put = time.Since(begin)
	begin = time.Now()
	sum, err := q.Drain(ctx, nothing{}, queue.DrainOptions{Once: true, PerDestination: 20})
	drained = time.Since(begin)
	if err == nil && sum.Delivered != n+1 {
		err = fmt.Errorf("%d of %d drained", sum.Delivered, n+1)
	}
	return list, put, drained, err
}

// multiply copies an entry until there are n, not synced: how they came to be is not
// what is measured.
func multiply(folder string, id queue.ID, n int) error {
	data, err := os.ReadFile(filepath.Join(folder, string(id)))
	if err != nil {
		return err
	}
	at := time.Now().UnixMilli()
	for i := range n - 1 {
		var raw [16]byte
		binary.BigEndian.PutUint64(raw[:8], uint64(at)<<16)
		binary.BigEndian.PutUint32(raw[6:10], uint32(i))
		name := strings.ToLower(base32.HexEncoding.EncodeToString(raw[:10]))
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			return err
		}
	}
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// nothing takes every message away.
type nothing struct{}

func (nothing) Carry(context.Context, queue.Envelope, io.ReadSeeker) ([]queue.Outcome, error) {
	return nil, errors.New("the queue did not ask for the journal")
}

func (nothing) CarryJournal(_ context.Context, e queue.Envelope, m io.ReadSeeker, j queue.Journal) ([]queue.Outcome, error) {
	if _, err := io.Copy(io.Discard, m); err != nil {
		return nil, err
	}
	if err := j.Commit(); err != nil {
		return nil, err
	}
	var outcomes []queue.Outcome
	for _, r := range e.To {
		outcomes = append(outcomes, queue.Outcome{Recipient: r.Address, Verdict: queue.Delivered, Status: "2.0.0", Reply: "250 ok"})
	}
	return outcomes, nil
}
