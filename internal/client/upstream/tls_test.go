package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/provider"
)

// greetTLS serves one IMAP greeting under the configuration.
func greetTLS(t *testing.T, config *tls.Config) provider.MailServer {
	t.Helper()
	listener := listenTCP(t)
	var done sync.WaitGroup
	done.Go(func() {
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, config)
		if conn.Handshake() == nil {
			_, _ = conn.Write([]byte("* OK [CAPABILITY IMAP4rev1] hi\r\n"))
			_, _ = conn.Read(make([]byte, 1))
		}
	})
	t.Cleanup(func() { listener.Close(); done.Wait() })
	return mailServer(listener, provider.ImplicitTLS)
}

func TestTLSFloor(t *testing.T) {
	old := testAuthority().server.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	twelve := testAuthority().server.Clone()
	twelve.MaxVersion = tls.VersionTLS12
	roots := testAuthority().roots
	tests := []struct {
		name   string
		server *tls.Config
		client *tls.Config
		want   string // part of the error, empty when it must work
	}{
		{"1.2", twelve, &tls.Config{RootCAs: roots}, ""},
		{"1.1", old, &tls.Config{RootCAs: roots}, "protocol version"},
		{"1.1 asked for", old, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10}, "protocol version"},
		{"unknown authority", testAuthority().server, &tls.Config{RootCAs: x509.NewCertPool()}, "unknown authority"},
		{"system roots", testAuthority().server, nil, "unknown authority"},
		{"other name", testAuthority().server, &tls.Config{RootCAs: roots, ServerName: "imap.example.org"}, "imap.example.org"},
		{"no check", testAuthority().server, &tls.Config{InsecureSkipVerify: true}, "checks no certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := Dial(t.Context(), IMAP, greetTLS(t, tt.server), Options{TLS: tt.client, Timeout: patience})
			if err == nil {
				if state, ok := conn.TLS(); !ok || state.Version < tls.VersionTLS12 {
					t.Errorf("TLS %x, %v", state.Version, ok)
				}
				conn.Close()
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// elsewhere is a connection whose peer is not this machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 143} }
func (elsewhere) Close() error         { return nil }

// "localhost" is what a resolver says it is: the peer's address counts.
func TestPlainChecksThePeer(t *testing.T) {
	_, err := Dial(t.Context(), IMAP, provider.MailServer{Host: "localhost", Port: 143, Security: provider.Plain}, Options{
		Network: func(context.Context, string, string) (net.Conn, error) { return elsewhere{}, nil },
	})
	if !errors.Is(err, ErrPlain) {
		t.Errorf("got %v", err)
	}
}

// A dial that hangs ends with the context and with the time-out.
func TestDialEnds(t *testing.T) {
	hang := func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	server := provider.MailServer{Host: "127.0.0.1", Port: 1, Security: provider.Plain}
	if _, err := Dial(t.Context(), IMAP, server, Options{Network: hang, Timeout: 10 * time.Millisecond}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("time-out: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, IMAP, server, Options{Network: hang}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
