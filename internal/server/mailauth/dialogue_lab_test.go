//go:build lab

package mailauth_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A dialogue is a line protocol over TLS, step by step.
type dialogue struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// dialogue signs in at submission with implicit TLS.
func (p *post) dialogue() *dialogue {
	p.t.Helper()
	d := dial(p.t, p.ca.File, p.postfix.Subs)
	d.hear("220")
	d.say("EHLO client.try.test", "250")
	plain := base64.StdEncoding.EncodeToString([]byte("\x00ann@try.test\x00" + p.passwords["all"]))
	d.say("AUTH PLAIN "+plain, "235")
	return d
}

func dial(t *testing.T, caFile string, port int) *dialogue {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), &tls.Config{RootCAs: pool, ServerName: "mail.try.test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &dialogue{t, conn, bufio.NewReader(conn)}
}

func (d *dialogue) say(line, want string) {
	d.t.Helper()
	if _, err := fmt.Fprintf(d.conn, "%s\r\n", line); err != nil {
		d.t.Fatal(err)
	}
	d.hear(want)
}

// hear reads a whole SMTP reply, whose last line must begin with want.
func (d *dialogue) hear(want string) {
	d.t.Helper()
	for {
		line, err := d.r.ReadString('\n')
		if err != nil {
			d.t.Fatalf("want %q: %v", want, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			d.t.Fatalf("want %q, got %q", want, line)
		}
		return
	}
}

// until reads lines up to one that holds text.
func (d *dialogue) until(text string) (string, error) {
	for {
		line, err := d.r.ReadString('\n')
		if err != nil {
			return line, err
		}
		if strings.Contains(line, text) {
			return line, nil
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
