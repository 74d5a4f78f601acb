package upstream

import (
	"fmt"
	"strings"
)

// pop3 speaks RFC 1939, RFC 2449 (CAPA), RFC 2595 (STLS) and RFC 5034 (AUTH).
type pop3 struct{}

func (pop3) greet(c *Conn) error {
	ok, text, err := c.readPOP3(newQuota())
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	c.greeting = c.trace.clean(text)
	if !ok {
		return &ReplyError{Command: "greeting", Reply: c.trace.clean("-ERR " + text), Temporary: true}
	}
	return nil
}

// ask reads CAPA. A server that has no CAPA has no SASL either: not an error, the
// sign-in will say so.
func (p pop3) ask(c *Conn) error {
	if err := c.send("CAPA"); err != nil {
		return err
	}
	c.capabilities = []string{}
	q := newQuota()
	ok, _, err := c.readPOP3(q)
	if err != nil || !ok {
		return err
	}
	for {
		line, err := c.readLine(q)
		if err != nil {
			return err
		}
		c.trace.server(line)
		if line == "." {
			return nil
		}
		// Byte-stuffed like any multi-line response: RFC 1939 section 3.
		c.capabilities = append(c.capabilities, strings.TrimPrefix(line, "."))
	}
}

func (p pop3) startTLS(c *Conn) error {
	if !c.has("STLS") {
		return fmt.Errorf("%s: %w", c.address(), ErrNoSTARTTLS)
	}
	reply, ok, err := p.command(c, "STLS")
	if err == nil && !ok {
		err = fmt.Errorf("%w: %w", ErrNoSTARTTLS, reply)
	}
	return err
}

// authenticate always waits for the server's invitation before the token. RFC 5034
// section 4 allows an initial response in lines of up to 255 octets, but Microsoft
// knows only the form of two lines, which everybody else takes too.
func (p pop3) authenticate(c *Conn, e *exchange) error {
	line, shown := e.start("AUTH "+e.mechanism, false)
	if err := c.sendHidden(line, shown); err != nil {
		return err
	}
	q := newQuota()
	for {
		line, err := c.readLine(q)
		if err != nil {
			return err
		}
		if line == "+" || strings.HasPrefix(line, "+ ") {
			answer, shown := e.answer(strings.TrimPrefix(line, "+"))
			if err := c.sendHidden(answer, shown); err != nil {
				return err
			}
			continue
		}
		c.trace.server(line)
		ok, text, valid := splitPOP3(line)
		switch {
		case !valid:
			return fmt.Errorf("AUTH: %w: %s", ErrProtocol, c.trace.clean(line))
		case !ok:
			return c.refused(e, strings.TrimSpace("-ERR "+text))
		}
		return nil
	}
}

func (p pop3) check(c *Conn) error { return p.must(c, "STAT") }

func (p pop3) quit(c *Conn) error { return p.must(c, "QUIT") }

func (p pop3) must(c *Conn, command string) error {
	reply, ok, err := p.command(c, command)
	if err == nil && !ok {
		return reply
	}
	return err
}

// command sends a command with a reply of one line. reply is set when ok is false.
func (pop3) command(c *Conn, command string) (reply *ReplyError, ok bool, err error) {
	if err := c.send(command); err != nil {
		return nil, false, err
	}
	ok, text, err := c.readPOP3(newQuota())
	if err != nil || ok {
		return nil, ok, err
	}
	line := c.trace.clean("-ERR " + text)
	return &ReplyError{Command: command, Reply: line, Temporary: temporary(POP3, line)}, false, nil
}

func (c *Conn) readPOP3(q *quota) (ok bool, text string, err error) {
	line, err := c.readLine(q)
	if err != nil {
		return false, "", err
	}
	c.trace.server(line)
	ok, text, valid := splitPOP3(line)
	if !valid {
		return false, "", fmt.Errorf("%w: %s", ErrProtocol, c.trace.clean(line))
	}
	return ok, text, nil
}

// splitPOP3 reads a status indicator, which is in upper case: RFC 1939 section 3.
func splitPOP3(line string) (ok bool, text string, valid bool) {
	word, text, _ := strings.Cut(line, " ")
	return word == "+OK", text, word == "+OK" || word == "-ERR"
}
