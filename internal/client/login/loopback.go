package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	listenTries    = 20              // pairs of ports to try before giving up
	maxConnections = 64              // at once; the oldest goes when another comes
	maxHeaderBytes = 64 << 10        // a browser sends localhost's cookies, of all ports
	hitPatience    = 5 * time.Second // for one connection, request and answer each
)

// listenBoth listens on the loopback literals of IPv4 and IPv6 at one port; port 0
// means a free one. A browser that is sent to "localhost" picks either family, and
// whoever holds the other one at the same port would get the code.
func listenBoth(ctx context.Context, port int) ([]net.Listener, error) {
	hosts := loopbackHosts(ctx)
	if len(hosts) == 0 {
		return nil, errors.New("this computer has no loopback address")
	}
	var err error
	for range listenTries {
		var found []net.Listener
		if found, err = listenAll(ctx, hosts, port); err == nil {
			return found, nil
		}
		if port != 0 {
			break // a registered port has no substitute
		}
	}
	return nil, err
}

// loopbackHosts returns the literals that this computer has: IPv6 may be off. Asking
// for any port tells a missing family from a port in use, on every system alike.
func loopbackHosts(ctx context.Context) []string {
	var hosts []string
	for _, host := range []string{"127.0.0.1", "::1"} {
		if listener, err := listenOn(ctx, host, 0); err == nil {
			_ = listener.Close()
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func listenAll(ctx context.Context, hosts []string, port int) ([]net.Listener, error) {
	var all []net.Listener
	for _, host := range hosts {
		listener, err := listenOn(ctx, host, port)
		if err != nil {
			for _, open := range all {
				_ = open.Close()
			}
			return nil, err
		}
		all = append(all, listener)
		port = portOf(listener)
	}
	return all, nil
}

func listenOn(ctx context.Context, host string, port int) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

func portOf(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }

// A door is the HTTP server behind the listeners. It is open for one sign-in.
type door struct {
	server *http.Server
	serve  sync.WaitGroup // the accept loops
	hits   sync.WaitGroup // the connections' goroutines

	mu     sync.Mutex
	open   []net.Conn // oldest first
	closed bool
}

// openDoor serves handler on the listeners until close.
func openDoor(listeners []net.Listener, handler http.Handler, patience time.Duration) *door {
	d := &door{}
	var plain http.Protocols
	plain.SetHTTP1(true)
	d.server = &http.Server{
		Handler:                      handler,
		DisableGeneralOptionsHandler: true,
		ReadTimeout:                  patience,
		WriteTimeout:                 patience,
		MaxHeaderBytes:               maxHeaderBytes,
		ConnState:                    d.track,
		ErrorLog:                     log.New(io.Discard, "", 0),
		Protocols:                    &plain,
	}
	// A browser opens connections ahead of need; kept ones would outlive the door.
	d.server.SetKeepAlivesEnabled(false)
	for _, listener := range listeners {
		d.serve.Go(func() { _ = d.server.Serve(listener) })
	}
	return d
}

// track bounds the connections. The oldest is dropped rather than the newcomer
// refused: a browser's hit is answered within milliseconds, so that whoever is
// oldest among many is one that stalls.
func (d *door) track(conn net.Conn, state http.ConnState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch state {
	case http.StateNew:
		d.hits.Add(1)
		d.open = append(d.open, conn)
		if len(d.open) > maxConnections {
			_ = d.open[0].Close()
			d.open = d.open[1:]
		}
		if d.closed {
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		d.open = slices.DeleteFunc(d.open, func(c net.Conn) bool { return c == conn })
		d.hits.Done()
	}
}

// close ends listeners and connections and waits for their goroutines. An answer
// that was flushed before is delivered: the kernel sends what it has.
func (d *door) close() error {
	err := d.server.Close()
	d.serve.Wait()
	d.mu.Lock()
	d.closed = true
	for _, conn := range d.open {
		_ = conn.Close()
	}
	d.mu.Unlock()
	d.hits.Wait()
	if err != nil {
		return fmt.Errorf("close the sign-in listener: %w", err)
	}
	return nil
}
