package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// A sink is a submission server that counts: STARTTLS, and a password or a token.
type sink struct {
	address string
	server  *smtp.Server
	served  chan struct{}

	mu          sync.Mutex
	changed     chan struct{}
	messages    int
	connections int
	open        int
	mostOpen    int
	first, last time.Time // first connection, last message
}

const (
	user     = "bench@example.org"
	password = "secret"
)

func startSink(config *tls.Config) (*sink, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{address: listener.Addr().String(), served: make(chan struct{}), changed: make(chan struct{})}
	s.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &visit{sink: s, conn: c}, nil }))
	s.server.Domain, s.server.TLSConfig, s.server.MaxLineLength = "sink.bench.test", config, 12_288
	s.server.EnableSMTPUTF8, s.server.EnableDSN = true, true
	s.server.ErrorLog = log.New(io.Discard, "", 0)
	go func() {
		defer close(s.served)
		_ = s.server.Serve(door{listener, s}) // ends with stop
	}()
	return s, nil
}

func (s *sink) stop() {
	_ = s.server.Close()
	<-s.served
}

// reset begins a new count.
func (s *sink) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages, s.connections, s.mostOpen = 0, 0, s.open
	s.first, s.last = time.Time{}, time.Time{}
}

// wait waits until n messages came since reset.
func (s *sink) wait(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		got, changed := s.messages, s.changed
		s.mu.Unlock()
		if got >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages came: %w", got, n, context.Cause(ctx))
		}
	}
}

// A door counts who comes and goes.
type door struct {
	net.Listener
	sink *sink
}

// Accept counts a connection.
func (d door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := d.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first = time.Now()
	}
	s.connections++
	s.open++
	s.mostOpen = max(s.mostOpen, s.open)
	return &guest{Conn: conn, sink: s}, nil
}

// A guest is a counted connection.
type guest struct {
	net.Conn
	sink *sink
	once sync.Once
}

// Close counts its end.
func (g *guest) Close() error {
	g.once.Do(func() {
		g.sink.mu.Lock()
		defer g.sink.mu.Unlock()
		g.sink.open--
	})
	return g.Conn.Close()
}

// A visit is one session. After STARTTLS there is a second one on the connection.
type visit struct {
	sink   *sink
	conn   *smtp.Conn
	signed bool
}

func (v *visit) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login, "XOAUTH2"} }

func (v *visit) Auth(mechanism string) (sasl.Server, error) {
	check := func(name, secret string) error {
		if name != user || secret != password {
			return smtp.ErrAuthFailed
		}
		v.signed = true
		return nil
	}
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(_, name, secret string) error { return check(name, secret) }), nil
	case sasl.Login:
		return &loginServer{check: check}, nil
	}
	return bearer(func(response string) error {
		if response != "user="+user+"\x01auth=Bearer "+token()+"\x01\x01" {
			return smtp.ErrAuthFailed
		}
		v.signed = true
		return nil
	}), nil
}

type bearer func(response string) error

func (b bearer) Next(response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	return nil, true, b(string(response))
}

// loginServer is LOGIN, which the library no longer has.
type loginServer struct {
	check func(name, secret string) error
	name  *string
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case l.name == nil:
		name := string(response)
		l.name = &name
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(*l.name, string(response))
}

func (v *visit) Mail(string, *smtp.MailOptions) error {
	if _, secure := v.conn.TLSConnectionState(); !secure || !v.signed {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (v *visit) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (v *visit) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	v.sink.mu.Lock()
	defer v.sink.mu.Unlock()
	v.sink.messages++
	v.sink.last = time.Now()
	close(v.sink.changed)
	v.sink.changed = make(chan struct{})
	return nil
}

func (v *visit) Reset() {}

func (v *visit) Logout() error { return nil }
