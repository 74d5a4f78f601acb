package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A place is where somebody answers.
type place struct{ network, address string }

// A device is what signs in.
type device struct{ user, label, password string }

// A result is how long the answers took.
type result struct {
	took  time.Duration
	each  []time.Duration
	later int // answers that nobody could give, asked for again
}

func (r result) rate() float64 { return float64(len(r.each)) / r.took.Seconds() }

func (r result) at(percent int) string {
	return r.each[min(len(r.each)*percent/100, len(r.each)-1)].Round(10 * time.Microsecond).String()
}

// errLater: the connection was closed in place of an answer.
var errLater = errors.New("later")

// A line is one connection of a mail server.
type line struct {
	conn net.Conn
	r    *bufio.Reader
	id   int
}

func open(p place) (*line, error) {
	conn, err := net.DialTimeout(p.network, p.address, time.Minute)
	if err != nil {
		return nil, err
	}
	l := &line{conn: conn, r: bufio.NewReader(conn)}
	if _, err := fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t%d\n", nextPID()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	for text := ""; text != "DONE\n"; {
		if text, err = l.r.ReadString('\n'); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return l, nil
}

// nextPID is a number of a process: Dovecot wants another one on each connection.
func nextPID() int64 { return time.Now().UnixNano() % 1_000_000_000 }

// ask asks one question and waits for the answer.
func (l *line) ask(d device, named bool) (string, error) {
	l.id++
	user := d.user
	if named {
		local, domain, _ := strings.Cut(user, "@")
		user = local + "+" + d.label + "@" + domain
	}
	_ = l.conn.SetDeadline(time.Now().Add(time.Minute))
	_, err := fmt.Fprintf(l.conn, "AUTH\t%d\tPLAIN\tservice=imap\tsecured\tlip=127.0.0.1\trip=127.0.0.1\tresp=%s\n", l.id,
		base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+d.password)))
	if err != nil {
		return "", errLater
	}
	text, err := l.r.ReadString('\n')
	if err != nil {
		return "", errLater
	}
	verb, _, _ := strings.Cut(text, "\t")
	return verb, nil
}

// ask asks for every device, over so many connections with one question at a time each.
// "Later" is asked again, as mail programs do; any other answer than the wanted one is an
// error.
func ask(p place, devices []device, conns int, want string) (result, error) {
	var r result
	var next atomic.Int64
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	begun := time.Now()
	for range min(conns, len(devices)) {
		all.Go(func() {
			each, later, err := asker(p, devices, &next, want)
			mu.Lock()
			defer mu.Unlock()
			r.each, r.later = append(r.each, each...), r.later+later
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	r.took = time.Since(begun)
	slices.Sort(r.each)
	return r, errors.Join(errs...)
}

// A steady is a connection that asks about devices in turns, for a load at its own pace.
type steady struct {
	*line
	devices []device
	next    *atomic.Int64
	want    string
}

// Do implements load.Worker.
func (s steady) Do(context.Context) error {
	d := s.devices[int(s.next.Add(1)-1)%len(s.devices)]
	verb, err := s.ask(d, true)
	if err == nil && verb != s.want {
		err = fmt.Errorf("%s got %s, want %s", d.user, verb, s.want)
	}
	return err
}

// Close implements load.Worker.
func (s steady) Close() error { return s.conn.Close() }

func asker(p place, devices []device, next *atomic.Int64, want string) (each []time.Duration, later int, err error) {
	l, err := open(p)
	if err != nil {
		return nil, 0, err
	}
	defer func() { l.conn.Close() }()
	for n := next.Add(1) - 1; n < int64(len(devices)); n = next.Add(1) - 1 {
		begun := time.Now()
		for {
			verb, err := l.ask(devices[n], true)
			if err == nil && verb != want {
				return each, later, fmt.Errorf("%s got %s, want %s", devices[n].user, verb, want)
			}
			if err == nil {
				break
			}
			later++
			l.conn.Close()
			if time.Since(begun) > 5*time.Minute {
				return each, later, fmt.Errorf("%s: no answer for five minutes", devices[n].user)
			}
			<-time.After(100 * time.Millisecond)
			if l, err = open(p); err != nil {
				return each, later, err
			}
		}
		each = append(each, time.Since(begun))
	}
	return each, later, nil
}
