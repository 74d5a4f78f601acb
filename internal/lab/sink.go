package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"sync"

	"github.com/emersion/go-smtp"
)

// Delivered is a message the sink took.
type Delivered struct {
	From      string
	To        []string
	Data      []byte // as it came, dots unstuffed, line ends as sent
	User      string // who signed in; empty without AUTH
	Mechanism string
	TLS       bool
}

// SinkOptions describe an SMTP server that takes everything.
type SinkOptions struct {
	// TLS is needed for STARTTLS and for Implicit.
	TLS *tls.Config
	// Implicit makes the port speak TLS at once; otherwise STARTTLS is offered.
	Implicit bool
	// Check decides over a token; nil: the sink offers no AUTH and needs none.
	Check func(user, token string) bool
	// Mechanisms offered with Check. Default: XOAUTH2 and OAUTHBEARER.
	Mechanisms []string
	// Challenge is the JSON a refused token is answered with, before the 535.
	// Default: what Google sends.
	Challenge string
	// Refuse, when not nil, is asked at each stage ("mail", "rcpt", "data") with
	// the address and may answer with an *smtp.SMTPError.
	Refuse func(stage, address string) error
}

// Sink is an SMTP server that keeps what it is given, for looking at.
type Sink struct {
	Host string
	Port int

	options SinkOptions
	server  *smtp.Server
	served  chan struct{}

	mu       sync.Mutex
	messages []Delivered
	refused  int // sign-ins
	changed  chan struct{}
}

// GoogleChallenge is the JSON Gmail sends with the 334 for a bad token.
const GoogleChallenge = `{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}`

// StartSink starts the server on a free loopback port.
func StartSink(o SinkOptions) (*Sink, error) {
	if o.Implicit && o.TLS == nil {
		return nil, errors.New("start smtp sink: implicit TLS without a certificate")
	}
	if len(o.Mechanisms) == 0 {
		o.Mechanisms = []string{"XOAUTH2", "OAUTHBEARER"}
	}
	if o.Challenge == "" {
		o.Challenge = GoogleChallenge
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start smtp sink: %w", err)
	}
	s := &Sink{
		Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port,
		options: o, served: make(chan struct{}), changed: make(chan struct{}),
	}
	s.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return newSinkSession(s, c), nil
	}))
	s.server.Domain = "sink.try.test"
	// RFC 4954 section 4.1: an AUTH line may be 12,288 octets long.
	s.server.MaxLineLength = 12_288
	s.server.MaxMessageBytes = 64 << 20
	s.server.EnableSMTPUTF8, s.server.EnableDSN = true, true
	s.server.AllowInsecureAuth = o.TLS == nil
	s.server.ErrorLog = log.New(io.Discard, "", 0)
	if o.Implicit {
		l = tls.NewListener(l, o.TLS)
	} else {
		s.server.TLSConfig = o.TLS
	}
	go func() {
		defer close(s.served)
		_ = s.server.Serve(l) // returns when Stop closes it
	}()
	return s, nil
}

// Addr is host:port.
func (s *Sink) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Stop closes the port and every connection.
func (s *Sink) Stop() {
	s.server.Close()
	<-s.served
}

// Messages returns what has been taken so far.
func (s *Sink) Messages() []Delivered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Delivered(nil), s.messages...)
}

// Refused says how many sign-ins were refused.
func (s *Sink) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Wait waits until n messages have been taken and returns them.
func (s *Sink) Wait(ctx context.Context, n int) ([]Delivered, error) {
	for {
		s.mu.Lock()
		messages, changed := append([]Delivered(nil), s.messages...), s.changed
		s.mu.Unlock()
		if len(messages) >= n {
			return messages, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return messages, fmt.Errorf("wait for message %d at the sink, %d came: %w", n, len(messages), ctx.Err())
		}
	}
}

func (s *Sink) take(d Delivered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, d)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Sink) countRefused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused++
}
