//go:build lab

package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// sieve is ManageSieve (RFC 5804) at Pigeonhole, by the passdbs that are printed: what a
// token or an app password is for, and a script that comes back as it was put.
func (c *chain) sieve() {
	c.t.Helper()
	const ann = "ann@try.test"
	sieve, reads, all := c.token("sieve"), c.token("imap smtp"), c.token("urn:ietf:params:oauth:scope:mail")
	password := func(protocol string) string {
		return strings.TrimSpace(c.run("credential", "make", ann, "--label", "sieve "+protocol, "--protocol", protocol))
	}
	var tries []func()
	for _, one := range []struct{ what, user, token, want string }{
		{"a token for filters", ann, sieve, "OK"},
		{"a token for everything", ann, all, "OK"},
		{"a token for reading and sending", ann, reads, "NO"},
		{"somebody else's", "bob@try.test", sieve, "NO"},
		{"nobody's", ann, "llat_" + strings.Repeat("A", 43), "NO"},
	} {
		for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
			tries = append(tries, func() {
				_, challenge, got := c.atSieve(mechanism, bearer(mechanism, one.user, one.token))
				c.want(mechanism+" at ManageSieve: "+one.what, got, one.want)
				c.challenge(mechanism+" at ManageSieve: "+one.what, challenge, one.want == "NO")
			})
		}
	}
	for protocol, want := range map[string]string{"sieve": "OK", "imap": "NO"} {
		first := base64.StdEncoding.EncodeToString([]byte("\x00" + ann + "\x00" + password(protocol)))
		tries = append(tries, func() {
			_, _, got := c.atSieve("PLAIN", first)
			c.want("an app password for "+protocol+" at ManageSieve", got, want)
		})
	}
	// Filters are not mail.
	together(append(tries, func() {
		_, _, got := c.atIMAP("XOAUTH2", ann, sieve)
		c.want("a token for filters at IMAP", got, "a NO")
	}, func() {
		_, _, got := c.atSMTP("OAUTHBEARER", ann, sieve)
		c.want("a token for filters at SMTP", got, "535")
	})...)
	conn, _, _ := c.atSieve("OAUTHBEARER", bearer("OAUTHBEARER", ann, sieve))
	c.keeps(conn)
}

// atSieve authenticates behind STARTTLS and returns the challenge of a refusal, and the reply.
func (c *chain) atSieve(mechanism, first string) (*talk, string, string) {
	c.t.Helper()
	plain, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.dovecot.Sieve)))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = plain.Close() })
	if err := plain.SetDeadline(time.Now().Add(testPatience)); err != nil {
		c.t.Fatal(err)
	}
	bare := &talk{c.t, bufio.NewReader(plain), plain}
	bare.sieveReply()
	fmt.Fprint(plain, "STARTTLS\r\n")
	if _, got := bare.sieveReply(); !strings.HasPrefix(got, "OK") {
		c.t.Fatalf("STARTTLS: %s", got)
	}
	config := c.ca.Client()
	config.ServerName = "mail.try.test"
	secured := tls.Client(plain, config)
	conn := &talk{c.t, bufio.NewReader(secured), secured}
	if told, got := conn.sieveReply(); !strings.HasPrefix(got, "OK") || !strings.Contains(told, mechanism) {
		c.t.Fatalf("%s is not offered: %s%s", mechanism, told, got)
	}
	fmt.Fprintf(secured, "AUTHENTICATE \"%s\" \"%s\"\r\n", mechanism, first)
	told, got := conn.sieveReply()
	if !strings.HasPrefix(got, `"`) {
		return conn, "", got
	}
	text, err := base64.StdEncoding.DecodeString(strings.Trim(got, `"`))
	if err != nil {
		c.t.Fatalf("challenge %q after %q: %v", got, told, err)
	}
	fmt.Fprint(secured, "\"AQ==\"\r\n")
	_, got = conn.sieveReply()
	return conn, string(text), got
}

// sieveReply reads up to a line that ends a reply (RFC 5804 section 1.2), or a challenge.
func (c *talk) sieveReply() (told, last string) {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return told, "closed"
		}
		line = strings.TrimRight(line, "\r\n")
		if size, literal := strings.CutPrefix(line, "{"); literal {
			n, err := strconv.Atoi(strings.TrimRight(size, "+}"))
			if err != nil || n > 64<<10 {
				c.t.Fatalf("literal %q", line)
			}
			text := make([]byte, n)
			if _, err := io.ReadFull(c.r, text); err != nil {
				c.t.Fatal(err)
			}
			told += string(text)
			continue
		}
		word, more, _ := strings.Cut(line, " ")
		if word == "OK" || word == "NO" || word == "BYE" || more == "" && len(line) > 20 && strings.HasPrefix(line, `"`) {
			return told, line
		}
		told += line + "\n"
	}
}

// keeps puts a script and reads it back.
func (c *chain) keeps(conn *talk) {
	c.t.Helper()
	const script = "keep;\r\n"
	for _, step := range []string{
		fmt.Sprintf("PUTSCRIPT \"one\" {%d+}\r\n%s\r\n", len(script), script), "SETACTIVE \"one\"\r\n", "LISTSCRIPTS\r\n", "GETSCRIPT \"one\"\r\n",
	} {
		if _, err := io.WriteString(conn.w, step); err != nil {
			c.t.Fatal(err)
		}
		told, got := conn.sieveReply()
		c.want(step, got, "OK")
		if strings.HasPrefix(step, "LIST") && !strings.Contains(told, `"one" ACTIVE`) || strings.HasPrefix(step, "GET") && !strings.Contains(told, "keep;") {
			c.t.Errorf("%s: %q", strings.TrimSpace(step), told)
		}
	}
}
