package upstream

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// imap speaks as much of RFC 3501 and RFC 9051 as a sign-in needs.
type imap struct{}

// An imapLine is one response: a status, data or continuation.
type imapLine struct {
	tag  string // "*", "+", or the tag of a command
	text string // what follows, literals in place
}

func (imap) greet(c *Conn) error {
	line, err := c.readIMAP(newQuota())
	if err != nil {
		return err
	}
	c.trace.server(line.tag + " " + line.text)
	status, text, _ := strings.Cut(line.text, " ")
	c.greeting = c.trace.clean(text)
	switch {
	case line.tag != "*":
	case strings.EqualFold(status, "OK"):
		c.learn(text)
		return nil
	case strings.EqualFold(status, "BYE"):
		return &ReplyError{Command: "greeting", Reply: c.trace.clean(line.text), Temporary: true}
	case strings.EqualFold(status, "PREAUTH"):
		// Signed in as whom, and by whom? Before STARTTLS this is how an attacker
		// keeps a client in plain text (RFC 9051 section 11.1).
		return fmt.Errorf("greeting: %w: PREAUTH, signed in without a token", ErrProtocol)
	}
	return fmt.Errorf("greeting: %w: %s", ErrProtocol, c.trace.clean(line.tag+" "+line.text))
}

func (i imap) ask(c *Conn) error {
	if err := i.command(c, "CAPABILITY"); err != nil {
		return err
	}
	if c.capabilities == nil {
		return fmt.Errorf("CAPABILITY: %w: no capabilities", ErrProtocol)
	}
	return nil
}

func (i imap) startTLS(c *Conn) error {
	if !c.has("STARTTLS") {
		return fmt.Errorf("%s: %w", c.address(), ErrNoSTARTTLS)
	}
	if err := i.command(c, "STARTTLS"); err != nil {
		if reply, ok := errors.AsType[*ReplyError](err); ok {
			return fmt.Errorf("%w: %w", ErrNoSTARTTLS, reply)
		}
		return err
	}
	return nil
}

func (i imap) authenticate(c *Conn, e *exchange) error {
	tag := c.nextTag()
	// RFC 4959: an initial response only where SASL-IR is offered.
	line, shown := e.start(tag+" AUTHENTICATE "+e.mechanism, c.has("SASL-IR"))
	before := c.capabilities
	c.capabilities = nil // they change with the sign-in
	if err := c.sendHidden(line, shown); err != nil {
		return err
	}
	final, err := i.finish(c, tag, e)
	if err != nil || !strings.EqualFold(final.status, "OK") {
		c.capabilities = before
	}
	switch {
	case err != nil:
		return err
	case !strings.EqualFold(final.status, "OK"):
		return c.refused(e, final.status+" "+final.text)
	}
	c.learn(final.text)
	return nil
}

// check lists INBOX, which every account has.
func (i imap) check(c *Conn) error { return i.command(c, `LIST "" "INBOX"`) }

func (i imap) quit(c *Conn) error {
	err := i.command(c, "LOGOUT")
	if reply, ok := errors.AsType[*ReplyError](err); ok && reply.Command == "BYE" {
		return nil // goodbye said, and the connection closed before the OK
	}
	return err
}

// command sends one command; anything but OK is a *ReplyError.
func (i imap) command(c *Conn, command string) error {
	tag := c.nextTag()
	if err := c.send(tag + " " + command); err != nil {
		return err
	}
	final, err := i.finish(c, tag, nil)
	if err != nil {
		return err
	}
	if !strings.EqualFold(final.status, "OK") {
		name, _, _ := strings.Cut(command, " ")
		reply := c.trace.clean(final.status + " " + final.text)
		return &ReplyError{Command: name, Reply: reply, Temporary: temporary(IMAP, reply)}
	}
	c.learn(final.text)
	return nil
}

type imapStatus struct{ status, text string }

// finish reads to the tagged response. Continuations go to e; without e they are a
// fault.
func (imap) finish(c *Conn, tag string, e *exchange) (imapStatus, error) {
	q := newQuota()
	var bye string
	for {
		line, err := c.readIMAP(q)
		if err != nil {
			if bye != "" && errors.Is(err, ErrClosed) {
				return imapStatus{}, &ReplyError{Command: "BYE", Reply: bye, Temporary: temporary(IMAP, bye)}
			}
			return imapStatus{}, err
		}
		if line.tag == "+" && e != nil {
			answer, shown := e.answer(line.text)
			if err := c.sendHidden(answer, shown); err != nil {
				return imapStatus{}, err
			}
			continue
		}
		c.trace.server(line.tag + " " + line.text)
		status, text, _ := strings.Cut(line.text, " ")
		switch {
		case line.tag == tag:
			if !isFinal(status) {
				return imapStatus{}, fmt.Errorf("%w: %s", ErrProtocol, c.trace.clean(line.text))
			}
			return imapStatus{strings.ToUpper(status), text}, nil
		case line.tag != "*":
			return imapStatus{}, fmt.Errorf("%w: %s", ErrProtocol, c.trace.clean(line.tag+" "+line.text))
		case strings.EqualFold(status, "BYE"):
			bye = c.trace.clean(line.text)
		case strings.EqualFold(status, "CAPABILITY"):
			c.capabilities = strings.Fields(text)
		}
	}
}

func isFinal(status string) bool {
	return slices.Contains([]string{"OK", "NO", "BAD"}, strings.ToUpper(status))
}

// learn takes capabilities from the response code of a text: OK [CAPABILITY ...].
func (c *Conn) learn(text string) {
	if capabilities := capabilityCode(text); capabilities != nil {
		c.capabilities = capabilities
	}
}

func capabilityCode(text string) []string {
	const begin = "[CAPABILITY "
	if len(text) < len(begin) || !strings.EqualFold(text[:len(begin)], begin) {
		return nil
	}
	list, _, ok := strings.Cut(text[len(begin):], "]")
	if !ok {
		return nil
	}
	return strings.Fields(list)
}

// has reports whether the first word of a capability is name.
func (c *Conn) has(name string) bool {
	return slices.ContainsFunc(c.capabilities, func(capability string) bool {
		word, _, _ := strings.Cut(capability, " ")
		return strings.EqualFold(word, name)
	})
}

func (c *Conn) nextTag() string {
	c.tags++
	return "A" + strconv.Itoa(c.tags)
}

// readIMAP reads one response with its literals, whose bytes may look like lines.
func (c *Conn) readIMAP(q *quota) (imapLine, error) {
	first, err := c.readLine(q)
	if err != nil {
		return imapLine{}, err
	}
	line := splitIMAP(first)
	for part := first; ; {
		size, ok := literalSize(part)
		if !ok || !line.mayHoldLiterals() {
			return line, nil
		}
		literal, err := c.readBytes(size, q)
		if err != nil {
			return imapLine{}, err
		}
		if part, err = c.readLine(q); err != nil {
			return imapLine{}, err
		}
		line.text += "\n" + literal + part
	}
}

func splitIMAP(line string) imapLine {
	tag, text, _ := strings.Cut(line, " ")
	return imapLine{tag: tag, text: text}
}

// mayHoldLiterals is true for data. The text of a status may end in "{5}" and mean
// nothing by it.
func (l imapLine) mayHoldLiterals() bool {
	if l.tag != "*" {
		return false
	}
	status, _, _ := strings.Cut(l.text, " ")
	return !isFinal(status) && !strings.EqualFold(status, "BYE") && !strings.EqualFold(status, "PREAUTH")
}

// literalSize reads "{12}", "{12+}" or "~{12}" at the end of a line: RFC 9051 section
// 4.3.
func literalSize(line string) (size int, ok bool) {
	body, ok := strings.CutSuffix(line, "}")
	if !ok {
		return 0, false
	}
	open := strings.LastIndexByte(body, '{')
	if open < 0 {
		return 0, false
	}
	digits := strings.TrimSuffix(body[open+1:], "+")
	number, err := strconv.ParseUint(digits, 10, 31)
	if err != nil {
		return 0, false
	}
	return int(number), true
}
