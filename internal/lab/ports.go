package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// freePorts returns n loopback ports nothing listens on. They lie below the
// range Linux hands out to outgoing connections, so between our look and the
// server's bind only another server can take one; startRetry covers that. This
// process gets none twice, and no other that asks here gets one that we have had: a test
// may have put one into a configuration already, or have closed it for a while.
func freePorts(n int) ([]int, error) {
	const low, high = 10_000, 32_000
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	found := make([]int, 0, n)
	for tries := 0; len(found) < n; tries++ {
		if tries > 1000 {
			return nil, errors.New("find free loopback ports: none in a thousand tries")
		}
		port := low + rand.IntN(high-low)
		if given().taken(port) || !reserve(port) {
			continue
		}
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		held = append(held, l)
		found = append(found, port)
	}
	return found, nil
}

// reserve makes a port ours until this process ends, whatever becomes of the servers at it:
// tests of several packages run at once. Linux's abstract sockets belong to a network, as
// ports do, and go with the process that has them, however it ends.
func reserve(port int) bool {
	if runtime.GOOS != "linux" {
		return true
	}
	l, err := net.Listen("unix", "@letterlock-lab-port-"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	given().hold(l)
	return true
}

// given are the ports that this process was given before.
var given = sync.OnceValue(func() *ports { return &ports{was: map[int]bool{}} })

type ports struct {
	mu   sync.Mutex
	was  map[int]bool
	held []net.Listener // what reserve has made
}

func (p *ports) hold(l net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = append(p.held, l)
}

// taken notes a port, and reports whether it was given before. After so many that few are
// left all may be given again.
func (p *ports) taken(port int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.was) > 10_000 {
		clear(p.was)
		for _, l := range p.held {
			l.Close()
		}
		p.held = nil
	}
	was := p.was[port]
	p.was[port] = true
	return was
}

// errPortTaken says that a server could not bind; the start is tried again
// with other ports.
var errPortTaken = errors.New("port was taken by another program")

func startRetry[T any](start func() (T, error)) (T, error) {
	const tries = 5
	for n := 1; ; n++ {
		v, err := start()
		if err == nil || n == tries || !errors.Is(err, errPortTaken) {
			return v, err
		}
	}
}

// taken is errPortTaken for an error of bind that says so.
func taken(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return errPortTaken
	}
	return err
}

func bindConflict(line string) bool {
	return strings.Contains(line, "Address already in use") || strings.Contains(line, "duplicate listener")
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// FreePorts is for programs that are started without the lab's help.
func FreePorts(n int) ([]int, error) { return freePorts(n) }

// waitPort waits until a process listens on a loopback port.
func waitPort(ctx context.Context, port int, p *Process) error {
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp4", loopback(port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.Done():
			return fmt.Errorf("%s ended: %s", p.Name, p.tail(8))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %s", p.Name, ctx.Err(), p.tail(8))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
