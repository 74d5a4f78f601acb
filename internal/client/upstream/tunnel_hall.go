package upstream

import (
	"fmt"
	"strings"
)

// A hall is where a tunnel's client waits before it is let through to the server.
type hall interface {
	// greeting is the first thing the client reads.
	greeting() string
	// empty reports that there is nothing to wait for: no line is looked at.
	empty() bool
	// answer answers a line and says what comes next.
	answer(line string) (reply string, next passage)
}

// A passage says how it goes on after a line.
type passage int

const (
	stay    passage = iota // the next line is answered here too
	open                   // from the next byte on all goes to the server
	forward                // this line goes to the server, and all that follows
)

func newHall(c *Conn) (hall, error) {
	switch c.protocol {
	case IMAP:
		return &imapHall{capabilities: c.without(imapLogin)}, nil
	case POP3:
		return &pop3Hall{capabilities: c.without(pop3Login)}, nil
	case SMTP:
		return &smtpHall{host: c.server.Host, extensions: c.without(smtpLogin)}, nil
	}
	return nil, fmt.Errorf("no such protocol: %q", c.protocol)
}

// without are the capabilities but those that are about signing in, which is done.
func (c *Conn) without(login func(word string) bool) []string {
	var kept []string
	for _, capability := range c.capabilities {
		word, _, _ := strings.Cut(strings.ToUpper(capability), " ")
		if !login(word) {
			kept = append(kept, c.trace.clean(capability))
		}
	}
	return kept
}

func imapLogin(word string) bool {
	return strings.HasPrefix(word, "AUTH=") || word == "SASL-IR" || word == "STARTTLS" || word == "LOGINDISABLED"
}

func pop3Login(word string) bool {
	return word == "SASL" || word == "STLS" || word == "USER"
}

func smtpLogin(word string) bool {
	return word == "AUTH" || strings.HasPrefix(word, "AUTH=") || word == "STARTTLS"
}

type imapHall struct{ capabilities []string }

// greeting is PREAUTH, RFC 9051 section 7.1.4: signed in already.
func (i *imapHall) greeting() string {
	list := i.capabilities
	if len(list) == 0 {
		list = []string{"IMAP4rev1"}
	}
	// A "]" would end the list early; no capability has one.
	return "* PREAUTH [CAPABILITY " + strings.ReplaceAll(strings.Join(list, " "), "]", "") + "] signed in by Letterlock\r\n"
}

func (i *imapHall) empty() bool { return true }

func (i *imapHall) answer(string) (string, passage) { return "", forward }

// A pop3Hall lets a client in with any user name and password. A client that knows
// it is signed in (fetchmail's "auth ssh") begins with a command of the transaction
// state, which opens the way as well.
type pop3Hall struct{ capabilities []string }

func (p *pop3Hall) greeting() string { return "+OK signed in by Letterlock, any password will do\r\n" }

func (p *pop3Hall) empty() bool { return false }

func (p *pop3Hall) answer(line string) (string, passage) {
	switch command(line) {
	case "CAPA":
		list := append([]string{"USER"}, p.capabilities...)
		var b strings.Builder
		b.WriteString("+OK capabilities follow\r\n")
		for _, capability := range list {
			if strings.HasPrefix(capability, ".") {
				b.WriteByte('.') // RFC 1939 section 3
			}
			b.WriteString(capability + "\r\n")
		}
		b.WriteString(".\r\n")
		return b.String(), stay
	case "USER":
		return "+OK\r\n", stay
	case "PASS":
		return "+OK signed in\r\n", open
	case "AUTH", "APOP", "STLS", "UTF8", "LANG", "":
		return "-ERR not here: use USER and PASS, or begin with STAT\r\n", stay
	}
	return "", forward
}

// A smtpHall answers up to the first command of a mail transaction with the
// extensions that the server gave us.
type smtpHall struct {
	host       string
	extensions []string
}

func (s *smtpHall) greeting() string {
	return "220 " + ascii(s.host) + " ESMTP signed in by Letterlock\r\n"
}

func (s *smtpHall) empty() bool { return false }

func (s *smtpHall) answer(line string) (string, passage) {
	switch command(line) {
	case "EHLO":
		return reply250(append([]string{ascii(s.host)}, s.extensions...)), stay
	case "HELO":
		return "250 " + ascii(s.host) + "\r\n", stay
	case "AUTH":
		return "503 5.5.1 already signed in\r\n", stay // RFC 4954 section 4
	case "STARTTLS":
		return "502 5.5.1 not through a tunnel\r\n", stay
	case "":
		return "500 5.5.2 no command\r\n", stay
	}
	return "", forward
}

// reply250 writes a reply of one or more lines: RFC 5321 section 4.2.1.
func reply250(lines []string) string {
	var b strings.Builder
	for _, line := range lines[:len(lines)-1] {
		b.WriteString("250-" + line + "\r\n")
	}
	b.WriteString("250 " + lines[len(lines)-1] + "\r\n")
	return b.String()
}

func command(line string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	return strings.ToUpper(word)
}
