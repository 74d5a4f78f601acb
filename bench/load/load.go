// Package load puts load on servers for the programs below bench: a bounded number of
// connections with one request at a time each, for a bounded time. It reads no more of an
// answer than it must, since what it needs is taken from the servers, which share the
// machine with it. wrk and vegeta were looked at: they do not tell a wrong answer with the
// right status, and are none of the lab's packages.
package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Result is how one measurement went.
type Result struct {
	Took time.Duration
	Each []time.Duration // sorted
}

// Rate is answers a second.
func (r Result) Rate() float64 { return float64(len(r.Each)) / r.Took.Seconds() }

// At is the latency that so many in a hundred were at or below.
func (r Result) At(percent int) time.Duration {
	return r.Each[min(len(r.Each)*percent/100, len(r.Each)-1)]
}

// A Worker is one connection.
type Worker interface {
	// Do asks once, and checks the answer.
	Do(ctx context.Context) error
	Close() error
}

// Bounds end a measurement: whichever comes first.
type Bounds struct {
	Conns int
	Span  time.Duration
	Most  int // answers
}

// Run lets workers ask until the time is over or there were enough answers. The first wrong
// answer of a worker ends it, and is an error of the whole.
func Run(ctx context.Context, b Bounds, worker func(ctx context.Context, n int) (Worker, error)) (Result, error) {
	var r Result
	var count atomic.Int64
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	begun := time.Now()
	for n := range b.Conns {
		all.Go(func() {
			each, err := work(ctx, b, n, begun.Add(b.Span), &count, worker)
			mu.Lock()
			defer mu.Unlock()
			r.Each = append(r.Each, each...)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	r.Took = time.Since(begun)
	slices.Sort(r.Each)
	if len(r.Each) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("nothing was answered"))
	}
	return r, errors.Join(errs...)
}

func work(ctx context.Context, b Bounds, n int, end time.Time, count *atomic.Int64, worker func(context.Context, int) (Worker, error)) (each []time.Duration, err error) {
	w, err := worker(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for ctx.Err() == nil && time.Now().Before(end) && count.Add(1) <= int64(b.Most) {
		begun := time.Now()
		if err := w.Do(ctx); err != nil {
			return each, err
		}
		each = append(each, time.Since(begun))
	}
	return each, ctx.Err()
}

// Paced is Run at a rate of its own choice, which does not wait for slow answers as Run's
// does: request n is due n/rate after the beginning, and its latency counts from then,
// whether a connection was free or not. The rate is that of the answers, which is lower than
// the one offered when the server does not keep up; late is how far behind its own times
// the sender was although a connection was free, at most in 99 of a hundred: so much of a
// latency can be the sender's.
func Paced(ctx context.Context, b Bounds, rate float64, worker func(ctx context.Context, n int) (Worker, error)) (r Result, late time.Duration, err error) {
	var next atomic.Int64
	var mu sync.Mutex
	var errs []error
	var behind []time.Duration
	workers := make([]Worker, 0, b.Conns)
	for n := range b.Conns {
		w, err := worker(ctx, n)
		if err != nil {
			errs = append(errs, err)
			break
		}
		workers = append(workers, w)
	}
	var all sync.WaitGroup
	begun := time.Now()
	for _, w := range workers {
		if len(errs) > 0 {
			break
		}
		all.Go(func() {
			p := pace{begun: begun, each: time.Duration(float64(time.Second) / rate), next: &next}
			err := p.work(ctx, b, w)
			mu.Lock()
			defer mu.Unlock()
			r.Each, behind = append(r.Each, p.took...), append(behind, p.late...)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	r.Took = time.Since(begun)
	for _, w := range workers {
		errs = append(errs, w.Close())
	}
	slices.Sort(r.Each)
	slices.Sort(behind)
	if err = errors.Join(errs...); err == nil && len(r.Each) == 0 {
		err = errors.New("nothing was answered")
	}
	if len(behind) > 0 {
		late = Result{Each: behind}.At(99)
	}
	return r, late, err
}

// A pace is the way of one connection through the requests of all.
type pace struct {
	begun      time.Time
	each       time.Duration
	next       *atomic.Int64
	took, late []time.Duration
}

func (p *pace) work(ctx context.Context, b Bounds, w Worker) error {
	for {
		n := p.next.Add(1) - 1
		due := p.begun.Add(time.Duration(n) * p.each)
		if n >= int64(b.Most) || due.Sub(p.begun) >= b.Span {
			return nil
		}
		free := time.Until(due)
		if free > 0 {
			select {
			case <-time.After(free):
			case <-ctx.Done():
				return ctx.Err()
			}
			p.late = append(p.late, time.Since(due))
		}
		if err := w.Do(ctx); err != nil {
			return err
		}
		p.took = append(p.took, time.Since(due))
	}
}

// A Line is one HTTP/1.1 connection, opened when it is needed, and again when the server
// has said that it closes it.
type Line struct {
	Network, Address string

	conn net.Conn
	r    *bufio.Reader
	body []byte
}

// Close implements Worker's Close.
func (l *Line) Close() error {
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}

func (l *Line) open(ctx context.Context) error {
	if l.conn != nil {
		return nil
	}
	conn, err := (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, l.Network, l.Address)
	if err != nil {
		return err
	}
	l.conn, l.r = conn, bufio.NewReaderSize(conn, 64<<10)
	return nil
}

// maxKept is how much of a body Ask returns; more is read and counted only.
const maxKept = 16 << 10

// Ask sends a request and reads its answer, which must have a status of 200 and a
// Content-Length. The body is good until the next call, and nil when it is large.
func (l *Line) Ask(ctx context.Context, request []byte) (length int, body []byte, err error) {
	if err := l.open(ctx); err != nil {
		return 0, nil, err
	}
	if err := l.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, nil, err
	}
	if _, err := l.conn.Write(request); err != nil {
		return 0, nil, err
	}
	status, err := l.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return 0, nil, fmt.Errorf("got %q, want 200", bytes.TrimSpace(status))
	}
	length, stays, err := l.head()
	if err != nil {
		return 0, nil, err
	}
	if length > maxKept {
		_, err = l.r.Discard(length)
	} else {
		l.body = slices.Grow(l.body[:0], length)[:length]
		body = l.body
		_, err = readFull(l.r, body)
	}
	if err == nil && !stays {
		err = l.Close()
	}
	return length, body, err
}

func readFull(r *bufio.Reader, into []byte) (n int, err error) {
	for n < len(into) && err == nil {
		var more int
		more, err = r.Read(into[n:])
		n += more
	}
	return n, err
}

func (l *Line) head() (length int, stays bool, err error) {
	length, stays = -1, true
	for {
		text, err := l.r.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		if text = bytes.TrimRight(text, "\r\n"); len(text) == 0 {
			break
		}
		if value, ok := field(text, "content-length:"); ok {
			if length, err = strconv.Atoi(value); err != nil {
				return 0, false, err
			}
		} else if value, ok := field(text, "connection:"); ok {
			stays = !strings.EqualFold(value, "close")
		}
	}
	if length < 0 {
		return 0, false, errors.New("an answer without Content-Length")
	}
	return length, stays, nil
}

func field(text []byte, name string) (string, bool) {
	if len(text) < len(name) || !bytes.EqualFold(text[:len(name)], []byte(name)) {
		return "", false
	}
	return string(bytes.TrimSpace(text[len(name):])), true
}

// tick is what /proc counts in: USER_HZ, a hundred a second on Linux.
const tick = 10 * time.Millisecond

// CPU is the CPU time that a process and its children took, user and system.
func CPU(pid int) (total time.Duration, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	found := false
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		before, after, _ := strings.Cut(string(text), ") ")
		id, _, _ := strings.Cut(before, " ")
		fields := strings.Fields(after)
		if len(fields) < 13 || id != strconv.Itoa(pid) && fields[1] != strconv.Itoa(pid) {
			continue
		}
		found = found || id == strconv.Itoa(pid)
		for _, field := range fields[11:13] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, err
			}
			total += time.Duration(n) * tick
		}
	}
	if !found {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	return total, nil
}

// Average is the machine's load average.
func Average() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
