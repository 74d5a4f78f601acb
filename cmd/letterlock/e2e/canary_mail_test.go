//go:build unix

package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// A postOffice is an IMAP, a POP3 and a submission server under TLS that take the
// issuer's tokens. A rude one refuses them all and repeats in its answers what it was
// shown, in every form that a debug line of a server was ever seen in.
type postOffice struct {
	issuer           *issuer
	rude             atomic.Bool
	letters          atomic.Int32 // that submission has taken
	imap, pop3, smtp string
}

func newPostOffice(t testing.TB, i *issuer) *postOffice {
	t.Helper()
	office := &postOffice{issuer: i}
	config, err := i.ca.Server()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		address *string
		serve   func(*clerk)
	}{{&office.imap, (*clerk).imap}, {&office.pop3, (*clerk).pop3}, {&office.smtp, (*clerk).smtp}} {
		listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		*one.address = listener.Addr().String()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go office.session(conn, one.serve)
			}
		}()
	}
	return office
}

// args name the three servers to login.
func (o *postOffice) args() []string {
	return []string{"--imap", o.imap, "--imap-security", "tls", "--pop3", o.pop3, "--pop3-security", "tls", "--smtp", o.smtp, "--smtp-security", "tls"}
}

func (o *postOffice) session(conn net.Conn, serve func(*clerk)) {
	defer conn.Close()
	serve(&clerk{office: o, conn: conn, in: bufio.NewReader(conn)})
}

// A clerk serves one connection.
type clerk struct {
	office *postOffice
	conn   net.Conn
	in     *bufio.Reader
}

func (c *clerk) say(format string, args ...any) { fmt.Fprintf(c.conn, format+"\r\n", args...) }

// words reads a line.
func (c *clerk) words() []string {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil
	}
	return append(strings.Fields(line), "", "", "", "")
}

var bearer = regexp.MustCompile(`Bearer ([^\x01]+)`)

// check goes through the SASL exchange with the first response, empty when there was
// none; begin is how the protocol marks a challenge. It returns what to repeat.
func (c *clerk) check(first, begin string) (ok bool, repeat string) {
	if first == "" {
		c.say("%s", begin)
		first = c.words()[0]
	}
	plain, err := base64.StdEncoding.DecodeString(first)
	token := bearer.FindStringSubmatch(string(plain))
	if err != nil || token == nil {
		return false, "not understood"
	}
	if !c.office.rude.Load() && c.office.issuer.good(token[1]) {
		return true, ""
	}
	repeat = fmt.Sprintf("%s is no token (%s, %q, %s) in %s of %d bytes, cut: %.20s", token[1], url.QueryEscape(token[1]),
		token[1], base64.StdEncoding.EncodeToString([]byte(token[1])), first, len(plain), token[1])
	challenge, _ := json.Marshal(map[string]string{"status": "401", "schemes": "bearer", "scope": "mail " + token[1], "error_description": repeat, "got": string(plain)})
	c.say("%s%s", begin, base64.StdEncoding.EncodeToString(challenge))
	if c.words() == nil {
		return false, ""
	}
	return false, repeat
}

func (c *clerk) imap() {
	c.say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=OAUTHBEARER AUTH=XOAUTH2] ready")
	for {
		w := c.words()
		if w == nil {
			return
		}
		tag := w[0]
		switch strings.ToUpper(w[1]) {
		case "CAPABILITY":
			c.say("* CAPABILITY IMAP4rev1 SASL-IR AUTH=OAUTHBEARER AUTH=XOAUTH2")
		case "AUTHENTICATE":
			if ok, repeat := c.check(w[3], "+ "); !ok {
				c.say("* OK [ALERT] debug: %s", repeat)
				c.say("%s NO [AUTHENTICATIONFAILED] %s", tag, repeat)
				continue
			}
		case "LIST":
			c.say(`* LIST () "/" INBOX`)
		case "LOGOUT":
			c.say("* BYE")
			c.say("%s OK", tag)
			return
		}
		c.say("%s OK done", tag)
	}
}

func (c *clerk) pop3() {
	c.say("+OK ready")
	for {
		w := c.words()
		if w == nil {
			return
		}
		switch strings.ToUpper(w[0]) {
		case "CAPA":
			c.say("+OK\r\nSASL OAUTHBEARER XOAUTH2\r\nUSER\r\n.")
		case "AUTH":
			if ok, repeat := c.check(w[2], "+ "); !ok {
				c.say("-ERR [AUTH] %s", repeat)
				continue
			}
			c.say("+OK in")
		case "STAT":
			c.say("+OK 0 0")
		case "QUIT":
			c.say("+OK")
			return
		default:
			c.say("+OK")
		}
	}
}

func (c *clerk) smtp() {
	c.say("220 ready")
	for {
		w := c.words()
		if w == nil {
			return
		}
		switch strings.ToUpper(w[0]) {
		case "EHLO":
			c.say("250-here\r\n250 AUTH OAUTHBEARER XOAUTH2")
		case "AUTH":
			if ok, repeat := c.check(w[2], "334 "); !ok {
				c.say("535-5.7.8 %s", repeat)
				c.say("535 5.7.8 %s", repeat)
				continue
			}
			c.say("235 2.7.0 in")
		case "DATA":
			c.say("354 go on")
			for line := ""; line != ".\r\n"; {
				var err error
				if line, err = c.in.ReadString('\n'); err != nil {
					return
				}
			}
			c.office.letters.Add(1)
			c.say("250 2.0.0 taken")
		case "QUIT":
			c.say("221 bye")
			return
		default:
			c.say("250 fine")
		}
	}
}
