package lab

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// TCPFault passes TCP connections on and breaks them when told to.
type TCPFault struct {
	target string
	addr   string
	stop   chan struct{}
	work   sync.WaitGroup

	mu        sync.Mutex
	listener  net.Listener
	open      map[net.Conn]bool
	count     int
	hang      bool
	dropAfter int64
}

// StartTCPFault starts a relay to target, a host:port, on a free loopback port.
func StartTCPFault(target string) (*TCPFault, error) {
	return startRetry(func() (*TCPFault, error) {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		f := &TCPFault{target: target, addr: loopback(ports[0]), stop: make(chan struct{}), open: map[net.Conn]bool{}}
		if err := f.Open(); err != nil {
			return nil, taken(err)
		}
		return f, nil
	})
}

// Addr is the relay's host:port.
func (f *TCPFault) Addr() string { return f.addr }

// Port is the relay's port.
func (f *TCPFault) Port() int {
	addr, err := net.ResolveTCPAddr("tcp4", f.addr)
	if err != nil {
		return 0
	}
	return addr.Port
}

// Connections says how many connections were taken.
func (f *TCPFault) Connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// Hang makes new connections open and silent.
func (f *TCPFault) Hang(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = on
}

// DropAfter makes new connections end by a reset once the server has sent n
// octets; 0 turns it off.
func (f *TCPFault) DropAfter(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropAfter = n
}

// Cut resets every open connection.
func (f *TCPFault) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.open {
		hardClose(conn)
	}
}

// Close makes the port refuse connections; those that are open stay.
func (f *TCPFault) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener != nil {
		f.listener.Close()
		f.listener = nil
	}
}

// Open listens, again on the same port after Close.
func (f *TCPFault) Open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp4", f.addr)
	if err != nil {
		return fmt.Errorf("open tcp relay: %w", err)
	}
	f.listener = l
	f.work.Go(func() { f.accept(l) })
	return nil
}

// Stop closes the port and every connection.
func (f *TCPFault) Stop() {
	close(f.stop)
	f.Close()
	f.Cut()
	f.work.Wait()
}

func (f *TCPFault) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		closed := f.listener != l
		if !closed {
			f.count++
			f.open[conn] = true // before anybody can close or cut: neither may overlook it
		}
		hang, drop := f.hang, f.dropAfter
		f.mu.Unlock()
		if closed {
			hardClose(conn) // taken when the port was open, and seen when it was not any more
			continue
		}
		f.work.Go(func() { f.serve(conn, hang, drop) })
	}
}

// keep registers a connection for Cut; the function it returns undoes that.
func (f *TCPFault) keep(conn net.Conn) func() {
	f.mu.Lock()
	f.open[conn] = true
	f.mu.Unlock()
	return f.forget(conn)
}

func (f *TCPFault) forget(conn net.Conn) func() {
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.open, conn)
		conn.Close()
	}
}

func (f *TCPFault) serve(client net.Conn, hang bool, drop int64) {
	defer f.forget(client)()
	if hang {
		// Reading and dropping what comes keeps the client's writes going and
		// notices when it leaves.
		_, _ = io.Copy(io.Discard, client)
		return
	}
	server, err := net.Dial("tcp", f.target)
	if err != nil {
		hardClose(client)
		return
	}
	defer f.keep(server)()
	relay(client, server, drop)
}

// relay copies both ways until both are done. With drop > 0 it resets the
// client after that many octets from the server.
func relay(client, server net.Conn, drop int64) {
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, client)
		closeWrite(server)
	})
	if drop > 0 {
		_, _ = io.CopyN(client, server, drop)
		hardClose(client)
		server.Close()
	} else {
		_, _ = io.Copy(client, server)
		closeWrite(client)
	}
	up.Wait()
}

func closeWrite(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}
