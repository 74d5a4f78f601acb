package upstream

import (
	"fmt"
	"strconv"
	"strings"
)

// smtp speaks the beginning of RFC 5321, RFC 3207 (STARTTLS) and RFC 4954 (AUTH).
type smtp struct{}

// hello is the name we give at EHLO. It tells nothing of the machine we run on, which
// is nobody's business at a submission server; msmtp does the same.
const hello = "localhost"

// A smtpReply is a reply with all its lines.
type smtpReply struct {
	code  int
	lines []string
}

// String joins the reply into one line.
func (r smtpReply) String() string {
	return strconv.Itoa(r.code) + " " + strings.Join(r.lines, " ")
}

func (smtp) greet(c *Conn) error {
	reply, err := c.readSMTP(newQuota())
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	c.greeting = c.trace.clean(strings.Join(reply.lines, " "))
	return c.expect("greeting", reply, 220)
}

// ask is EHLO. There is no way back to HELO: without EHLO there is no AUTH.
func (smtp) ask(c *Conn) error {
	reply, err := c.smtpCommand("EHLO " + hello)
	if err != nil {
		return err
	}
	if err := c.expect("EHLO", reply, 250); err != nil {
		return err
	}
	c.capabilities = reply.lines[1:] // the first line is the greeting
	return nil
}

func (smtp) startTLS(c *Conn) error {
	if !c.has("STARTTLS") {
		return fmt.Errorf("%s: %w", c.address(), ErrNoSTARTTLS)
	}
	reply, err := c.smtpCommand("STARTTLS")
	if err != nil {
		return err
	}
	if err := c.expect("STARTTLS", reply, 220); err != nil {
		return fmt.Errorf("%w: %w", ErrNoSTARTTLS, err)
	}
	return nil
}

func (smtp) authenticate(c *Conn, e *exchange) error {
	if err := c.sendHidden(e.start("AUTH "+e.mechanism, true)); err != nil {
		return err
	}
	q := newQuota()
	for {
		reply, err := c.replySMTP(q)
		if err != nil {
			return err
		}
		switch reply.code {
		case 334:
			if err := c.sendHidden(e.answer(strings.Join(reply.lines, ""))); err != nil {
				return err
			}
		case 235:
			c.trace.server(reply.String())
			return nil
		default:
			c.trace.server(reply.String())
			if reply.code < 400 {
				return fmt.Errorf("AUTH: %w: %s", ErrProtocol, c.trace.clean(reply.String()))
			}
			return c.refused(e, reply.String())
		}
	}
}

func (smtp) check(c *Conn) error { return c.must("NOOP", 250) }

func (smtp) quit(c *Conn) error { return c.must("QUIT", 221) }

func (c *Conn) must(command string, code int) error {
	reply, err := c.smtpCommand(command)
	if err != nil {
		return err
	}
	return c.expect(command, reply, code)
}

func (c *Conn) expect(command string, reply smtpReply, code int) error {
	if reply.code == code {
		return nil
	}
	line := c.trace.clean(reply.String())
	if reply.code < 400 {
		return fmt.Errorf("%s: %w: %s", command, ErrProtocol, line)
	}
	return &ReplyError{Command: command, Reply: line, Temporary: temporary(SMTP, line)}
}

func (c *Conn) smtpCommand(command string) (smtpReply, error) {
	if err := c.send(command); err != nil {
		return smtpReply{}, err
	}
	return c.readSMTP(newQuota())
}

// readSMTP reads a reply and traces it.
func (c *Conn) readSMTP(q *quota) (smtpReply, error) {
	reply, err := c.replySMTP(q)
	for _, line := range reply.lines {
		c.trace.server(strconv.Itoa(reply.code) + " " + line)
	}
	return reply, err
}

// replySMTP reads one reply; all its lines have the same code (RFC 5321 section
// 4.2.1).
func (c *Conn) replySMTP(q *quota) (smtpReply, error) {
	var reply smtpReply
	for {
		line, err := c.readLine(q)
		if err != nil {
			return smtpReply{}, err
		}
		code, text, more, ok := splitSMTP(line)
		if !ok || reply.code != 0 && code != reply.code {
			return smtpReply{}, fmt.Errorf("%w: %s", ErrProtocol, c.trace.clean(line))
		}
		reply.code = code
		reply.lines = append(reply.lines, text)
		if !more {
			return reply, nil
		}
	}
}

// splitSMTP reads "250-text", "250 text" or "250".
func splitSMTP(line string) (code int, text string, more, ok bool) {
	if len(line) < 3 {
		return 0, "", false, false
	}
	code, err := strconv.Atoi(line[:3])
	if err != nil || code < 200 || code > 599 {
		return 0, "", false, false
	}
	if len(line) == 3 {
		return code, "", false, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, false
	}
	return code, line[4:], line[3] == '-', true
}
