package sendmail

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
)

// Bounds of a dialogue (RFC 5321 section 4.5.3.1; extensions lengthen MAIL and RCPT).
const (
	commandLimit   = 2048
	recipientLimit = 10_000
	errorLimit     = 100
)

// A dialogue is sendmail -bs: SMTP on standard input and output for programs that
// hand in mail so (alpine, nmh). emersion/go-smtp serves net.Conns with deadlines and
// TLS; here it is one pipe, and the caller is already who he is.
type dialogue struct {
	in     *bufio.Reader
	out    *bufio.Writer
	sender *Sender
	base   Options // of the command line

	bareLF  bool // the last command ended with LF alone
	greeted bool
	mail    bool
	o       Options // of this transaction
	errors  int
}

var errTooMany = errors.New("too many errors")

// Serve speaks SMTP until QUIT or the end of in. o gives what the command line set
// for every message (--account, -F, -n).
func (s *Sender) Serve(ctx context.Context, o Options, in io.Reader, out io.Writer) error {
	d := &dialogue{in: bufio.NewReaderSize(in, commandLimit), out: bufio.NewWriter(out), sender: s, base: o}
	d.reset()
	d.reply("220 %s ESMTP Letterlock", s.Host)
	for {
		// Pipelined commands are answered together (RFC 2920 section 3.2).
		if d.in.Buffered() == 0 {
			if err := d.out.Flush(); err != nil {
				return cli.Wrap(cli.TempFail, fmt.Errorf("answer: %w", err), "")
			}
		}
		line, err := d.command()
		switch {
		case err == io.EOF:
			return d.out.Flush()
		case errors.Is(err, bufio.ErrBufferFull):
			d.refuse("500 5.5.2 line too long")
		case err != nil:
			return cli.Wrap(cli.TempFail, fmt.Errorf("read a command: %w", err), "")
		default:
			if quit := d.do(ctx, line); quit {
				return d.out.Flush()
			}
		}
		if d.errors > errorLimit {
			d.reply("421 4.7.0 too many errors")
			return errors.Join(d.out.Flush(), cli.Wrap(cli.DataError, errTooMany, ""))
		}
	}
}

// command reads a line; a line that is too long is read to its end and refused.
func (d *dialogue) command() (string, error) {
	line, err := d.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = d.in.ReadSlice('\n')
		}
		if err != nil {
			return "", err
		}
		return "", bufio.ErrBufferFull
	}
	if err != nil {
		return "", err // half a command at the end is none
	}
	text := strings.TrimSuffix(string(line), "\n")
	d.bareLF = !strings.HasSuffix(text, "\r")
	return strings.TrimSuffix(text, "\r"), nil
}

func (d *dialogue) reply(format string, args ...any) {
	fmt.Fprintf(d.out, "%s\r\n", cli.Line(fmt.Sprintf(format, args...)))
}

func (d *dialogue) refuse(format string, args ...any) {
	d.errors++
	d.reply(format, args...)
}

func (d *dialogue) reset() {
	d.mail = false
	d.o = d.base
	d.o.FromHeader, d.o.Recipients, d.o.Sender = false, nil, nil
}

func (d *dialogue) do(ctx context.Context, line string) (quit bool) {
	verb, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "HELO":
		d.reset()
		d.greeted = true
		d.reply("250 %s", d.sender.Host)
	case "EHLO", "LHLO":
		if strings.EqualFold(verb, "LHLO") {
			d.refuse("500 5.5.1 this is not LMTP")
			return false
		}
		d.reset()
		d.greeted = true
		d.extensions()
	case "MAIL":
		d.from(rest)
	case "RCPT":
		d.recipient(rest)
	case "DATA":
		d.data(ctx, rest)
	case "RSET":
		d.reset()
		d.reply("250 2.0.0 ok")
	case "NOOP", "VERB", "ONEX": // the latter two are what nmh and Perl callers say to sendmail
		d.reply("250 2.0.0 ok")
	case "VRFY":
		d.reply("252 2.5.0 send some mail, it will be tried") // RFC 5321 section 3.5.3
	case "HELP":
		d.reply("214 2.0.0 HELO EHLO MAIL RCPT DATA RSET NOOP VRFY QUIT")
	case "QUIT":
		d.reply("221 2.0.0 bye")
		return true
	default:
		d.refuse("500 5.5.1 unknown command")
	}
	return false
}

func (d *dialogue) extensions() {
	d.reply("250-%s", d.sender.Host)
	size := d.sender.Limits.Size
	if size == 0 {
		size = 100 << 20
	}
	d.reply("250-SIZE %d", size)
	for _, word := range []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN"} {
		d.reply("250-%s", word)
	}
	d.reply("250 ENHANCEDSTATUSCODES")
}

// path reads <ADDRESS> PARAMETERS after FROM: or TO:. Blanks around the path are
// taken, as every server does.
func path(text, keyword string) (address string, parameters []string, ok bool) {
	if len(text) < len(keyword) || !strings.EqualFold(text[:len(keyword)], keyword) {
		return "", nil, false
	}
	text = strings.TrimLeft(text[len(keyword):], " ")
	if !strings.HasPrefix(text, "<") {
		return "", nil, false
	}
	end := closing(text)
	if end < 0 {
		return "", nil, false
	}
	return text[1:end], strings.Fields(text[end+1:]), true
}

// closing finds the > that ends the path; one in a quoted local part does not.
func closing(text string) int {
	quoted := false
	for i := 1; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == '>' && !quoted:
			return i
		}
	}
	return -1
}

func (d *dialogue) from(rest string) {
	address, parameters, ok := path(rest, "FROM:")
	switch {
	case !d.greeted:
		d.refuse("503 5.5.1 say EHLO first")
		return
	case d.mail:
		d.refuse("503 5.5.1 the sender is already given")
		return
	case !ok:
		d.refuse("501 5.5.4 write MAIL FROM:<ADDRESS>")
		return
	}
	sender, err := message.ParseSender(address)
	if err != nil {
		d.refuse("501 5.1.7 %v", err)
		return
	}
	d.reset()
	for _, parameter := range parameters {
		if answer := d.mailParameter(parameter); answer != "" {
			d.reset()
			d.refuse("%s", answer)
			return
		}
	}
	d.mail, d.o.Sender = true, &sender
	d.reply("250 2.1.0 ok")
}

func (d *dialogue) mailParameter(parameter string) (answer string) {
	name, value, _ := strings.Cut(parameter, "=")
	var err error
	switch strings.ToUpper(name) {
	case "SIZE":
		size, bad := strconv.ParseInt(value, 10, 64)
		if limit := d.sender.Limits.Size; bad == nil && limit > 0 && size > limit {
			return "552 5.3.4 message is larger than the limit"
		}
		err = bad
	case "BODY":
		err = oneOf('B', strings.ToUpper(value), "7BIT", "8BITMIME")
	case "SMTPUTF8":
	case "RET":
		err = d.o.returns(value)
	case "ENVID":
		if value, err = unxtext(value); err == nil {
			err = d.o.envelopeID(value)
		}
	case "AUTH": // RFC 4954 section 5: who submitted it is known otherwise
	default:
		return "555 5.5.4 unknown parameter"
	}
	if err != nil {
		return "501 5.5.4 unusable value of " + strings.ToUpper(name)
	}
	return ""
}

func (d *dialogue) recipient(rest string) {
	address, parameters, ok := path(rest, "TO:")
	switch {
	case !d.mail:
		d.refuse("503 5.5.1 say MAIL first")
		return
	case !ok || address == "":
		d.refuse("501 5.5.4 write RCPT TO:<ADDRESS>")
		return
	case len(d.o.Recipients) >= recipientLimit:
		d.refuse("452 4.5.3 too many recipients")
		return
	}
	addresses, err := message.ParseAddresses(address)
	if err == nil && len(addresses) != 1 {
		err = errors.New("one address, please")
	}
	if err != nil {
		d.refuse("501 5.1.3 %v", err)
		return
	}
	if _, err := d.sender.Resolve(addresses, d.o.NoAliases); err != nil {
		d.refuse("550 5.1.1 %v", err)
		return
	}
	for _, parameter := range parameters {
		name, value, _ := strings.Cut(parameter, "=")
		switch {
		case strings.EqualFold(name, "ORCPT"):
		case strings.EqualFold(name, "NOTIFY") && d.o.notify(value) == nil:
		default:
			d.refuse("555 5.5.4 unknown or unusable parameter")
			return
		}
	}
	d.o.Recipients = append(d.o.Recipients, addresses[0])
	d.reply("250 2.1.5 ok")
}

func (d *dialogue) data(ctx context.Context, rest string) {
	switch {
	case !d.mail || len(d.o.Recipients) == 0:
		d.refuse("503 5.5.1 say MAIL and RCPT first")
		return
	case strings.TrimSpace(rest) != "":
		d.refuse("501 5.5.4 DATA takes no argument")
		return
	}
	d.reply("354 end with a line that has only a dot")
	if d.out.Flush() != nil {
		return // the next read finds the end
	}
	body := &dotReader{in: d.in, bareLF: d.bareLF, start: true}
	id, err := d.sender.Send(ctx, d.o, body)
	if _, rest := io.Copy(io.Discard, body); rest != nil && err == nil {
		err = rest
	}
	d.reset()
	if err != nil {
		d.refuse("%s %v", statusOf(err), err)
		return
	}
	d.reply("250 2.0.0 queued as %s", id)
}

// statusOf turns an exit code into a reply.
func statusOf(err error) string {
	var fault *cli.Fault
	if !errors.As(err, &fault) {
		return "451 4.3.0"
	}
	switch fault.Code {
	case cli.DataError:
		if errors.Is(err, message.ErrTooLarge) {
			return "552 5.3.4"
		}
		return "554 5.6.0"
	case cli.NoUser, cli.Usage:
		return "553 5.1.3"
	case cli.NoPerm:
		return "550 5.7.1"
	}
	return "451 4.3.0"
}

// unxtext decodes xtext (RFC 3461 section 4).
func unxtext(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '+' {
			b.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", errors.New("half a code")
		}
		code, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil {
			return "", errors.New("no code")
		}
		b.WriteByte(byte(code))
		i += 2
	}
	return b.String(), nil
}
