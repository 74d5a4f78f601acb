package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/bench/load"
)

// errRefused is a plain no to a token.
var errRefused = errors.New("the token was refused")

// A poster posts forms to one address over one connection.
type poster struct {
	load.Line
	path   string
	form   func() url.Values
	answer func(body []byte) error
}

// Do implements load.Worker.
func (p *poster) Do(ctx context.Context) error {
	form := p.form().Encode()
	_, body, err := p.Ask(ctx, fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nX-Dovecot-Auth-Service: imap\r\nContent-Length: %d\r\n\r\n%s", p.path, p.Address, len(form), form))
	if err != nil {
		return err
	}
	return p.answer(body)
}

// active reads the answer of an introspection.
func active(body []byte) error {
	var value struct {
		Active   *bool
		Username string
	}
	switch err := json.Unmarshal(body, &value); {
	case err != nil:
		return err
	case value.Active == nil:
		return fmt.Errorf("got %q", body)
	case !*value.Active:
		return errRefused
	case value.Username != person:
		return fmt.Errorf("it is a token of %q", value.Username)
	}
	return nil
}

// A mailServer speaks Dovecot's authentication protocol, as Postfix and Dovecot's own login
// processes do.
type mailServer struct {
	conn  net.Conn
	r     *bufio.Reader
	id    int
	token func() string
}

func dialMailServer(network, address string, n int, token func() string) (*mailServer, error) {
	conn, err := net.DialTimeout(network, address, time.Minute)
	if err != nil {
		return nil, err
	}
	m := &mailServer{conn: conn, r: bufio.NewReader(conn), token: token}
	// Dovecot wants another number of a process on each connection.
	if _, err := fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t%d\n", time.Now().UnixNano()%1_000_000_000+int64(n)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	for text := ""; text != "DONE\n"; {
		if text, err = m.r.ReadString('\n'); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return m, nil
}

// Close implements load.Worker.
func (m *mailServer) Close() error { return m.conn.Close() }

// Do implements load.Worker: one login by OAUTHBEARER (RFC 7628 section 3.1).
func (m *mailServer) Do(context.Context) error {
	if err := m.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	m.id++
	first := "n,a=" + person + ",\x01host=mail.try.test\x01port=993\x01auth=Bearer " + m.token() + "\x01\x01"
	_, err := fmt.Fprintf(m.conn, "AUTH\t%d\tOAUTHBEARER\tservice=imap\tsecured\tlip=127.0.0.1\trip=127.0.0.1\tresp=%s\n", m.id, base64.StdEncoding.EncodeToString([]byte(first)))
	if err != nil {
		return err
	}
	text, err := m.r.ReadString('\n')
	if err != nil {
		return err
	}
	switch verb, rest, _ := strings.Cut(strings.TrimSpace(text), "\t"); verb {
	case "OK":
		if !strings.Contains(rest, "user="+person) {
			return fmt.Errorf("somebody else is let in: %s", rest)
		}
		return nil
	case "CONT", "FAIL": // the challenge of RFC 7628 section 3.2.2 comes before the end
		if strings.Contains(rest, "\ttemp") {
			return fmt.Errorf("no judgement: %s", rest)
		}
		return errRefused
	default:
		return fmt.Errorf("got %q", text)
	}
}
