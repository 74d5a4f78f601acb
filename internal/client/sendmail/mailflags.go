package sendmail

import (
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// A Mail is a command line of mail or mailx in send mode.
type Mail struct {
	To, Cc, Bcc []string
	Subject     *string // nil when not given: a person is asked
	From        string  // -r
	Headers     []Field
	Attachments []string
	Quote       string   // -q: a file that the body begins with
	BodyType    string   // -M: the body's media type
	SkipEmpty   bool     // -E: an empty body sends nothing
	FromHeader  bool     // -t: standard input has a header
	Account     string   // --account, or -A when it names an account
	System      bool     // --system
	Help        bool     // --help
	Debug       bool     // -d: nothing is sent
	Ignored     []string // options that the account decides about, to be told
	Sendmail    Options  // after --, and -v

	encoding string // a Content-Transfer-Encoding of the caller's
}

// A Field is one header field.
type Field struct{ Name, Value string }

const mailHint = "man letterlock-mailx describes the options"

func mailUsage(format string, args ...any) error {
	return cli.Faultf(cli.Usage, mailHint, format, args...)
}

// A Surveyor answers what the letters that differ between mail programs mean.
type Surveyor struct {
	IsAccount func(name string) bool
	IsFile    func(path string) bool
}

// ParseMail reads the arguments of mail: the union of what bsd-mailx, s-nail and GNU
// mail take in send mode. Where they differ, the argument decides:
//
//	-a  "Name: value" is a header field (bsd-mailx, GNU), else a file (s-nail)
//	-A  an account (s-nail), else a file (GNU)
//	-E  sends no empty body (bsd-mailx, s-nail); before "set ..." GNU's --exec, which
//	    fail2ban and git's examples use to turn escapes off: none are read here
//	--  ends the options; after an address it begins options of sendmail
func ParseMail(args []string, survey Surveyor) (Mail, error) {
	m := Mail{Sendmail: Options{Mode: Deliver}}
	p := mailParser{mail: &m, survey: survey, rest: args}
	for len(p.rest) > 0 {
		arg := p.rest[0]
		p.rest = p.rest[1:]
		var err error
		switch {
		case arg == "--" && len(m.To) > 0:
			err = p.sendmailOptions()
		case arg == "--":
			err = p.addresses()
		case strings.HasPrefix(arg, "--"):
			err = p.long(arg[2:])
		case len(arg) > 1 && arg[0] == '-':
			err = p.cluster(arg[1:])
		default:
			m.To = append(m.To, arg)
		}
		if err != nil {
			return Mail{}, err
		}
	}
	if len(m.To)+len(m.Cc)+len(m.Bcc) == 0 && !m.FromHeader && !m.Help {
		return Mail{}, cli.Faultf(cli.Usage, "name whom to send to; this mail only sends and reads no mailbox", "no recipients")
	}
	return m, nil
}

type mailParser struct {
	mail   *Mail
	survey Surveyor
	rest   []string
}

// addresses takes what follows --: addresses up to a second --.
func (p *mailParser) addresses() error {
	for len(p.rest) > 0 {
		arg := p.rest[0]
		p.rest = p.rest[1:]
		if arg == "--" {
			return p.sendmailOptions()
		}
		p.mail.To = append(p.mail.To, arg)
	}
	return nil
}

// sendmailOptions takes the rest as options of sendmail; more recipients may be
// among them.
func (p *mailParser) sendmailOptions() error {
	o, err := Parse(append(p.rest, "-t")) // -t: without recipients it is no fault here
	if err != nil {
		return err
	}
	if o.Mode != Deliver {
		return mailUsage("-b%s does not belong behind --", string(o.Mode))
	}
	o.FromHeader = slices.Contains(p.rest, "-t")
	o.Verbose = o.Verbose || p.mail.Sendmail.Verbose
	p.mail.To = append(p.mail.To, o.Recipients...)
	o.Recipients = nil
	p.mail.FromHeader = p.mail.FromHeader || o.FromHeader
	p.mail.Sendmail, p.rest = o, nil
	return nil
}

func (p *mailParser) cluster(flags string) error {
	for i := 0; i < len(flags); i++ {
		letter := flags[i]
		if p.simple(letter) {
			continue
		}
		if letter == 'E' {
			p.skipEmpty(flags[i+1:] == "")
			continue
		}
		if strings.ContainsRune("efHuL", rune(letter)) {
			return cli.Faultf(cli.Usage, "a mail reader such as mutt or s-nail does that", "-%c reads a mailbox, and this mail only sends", letter)
		}
		if !strings.ContainsRune("sabcrASCMmqhTO", rune(letter)) {
			return mailUsage("unknown option -%s", cli.Line(string(rune(letter))))
		}
		value := flags[i+1:]
		if value == "" {
			if len(p.rest) == 0 {
				return mailUsage("option -%c needs an argument", letter)
			}
			value, p.rest = p.rest[0], p.rest[1:]
		}
		return p.valued(letter, value)
	}
	return nil
}

func (p *mailParser) simple(letter byte) bool {
	switch letter {
	case 'v':
		p.mail.Sendmail.Verbose = true
	case 't':
		p.mail.FromHeader = true
	case 'd':
		p.mail.Debug = true
	case 'i', 'I', 'n', 'N', 'B', 'D', 'F', '~', '#':
		// Terminal manners, start-up files and copies in folders: none of them here.
	default:
		return false
	}
	return true
}

func (p *mailParser) skipEmpty(last bool) {
	if last && len(p.rest) > 0 {
		command, _, _ := strings.Cut(p.rest[0], " ")
		if command == "set" || command == "unset" {
			p.rest = p.rest[1:]
			return
		}
	}
	p.mail.SkipEmpty = true
}

func (p *mailParser) valued(letter byte, value string) error {
	m := p.mail
	switch letter {
	case 's':
		m.Subject = &value
	case 'b':
		m.Bcc = append(m.Bcc, value)
	case 'c':
		m.Cc = append(m.Cc, value)
	case 'r':
		m.From = value
	case 'C':
		return m.header(value)
	case 'a':
		if _, ok := cutField(value); ok && !p.survey.IsFile(value) {
			return m.header(value)
		}
		m.Attachments = append(m.Attachments, value)
	case 'A':
		switch {
		case p.survey.IsAccount(value):
			m.Account = value
		case p.survey.IsFile(value):
			m.Attachments = append(m.Attachments, value)
		default:
			return mailUsage("-A: %q is neither an account nor a file", cli.Line(value))
		}
	case 'M':
		m.BodyType = value
	case 'q', 'm':
		m.Quote = value
	case 'S':
		return m.variable(value)
	default: // -h hops, -T name, -O option
		m.Ignored = append(m.Ignored, "-"+string(rune(letter)))
	}
	return nil
}

// variable is -S of s-nail. What says how a message looks is done; what leads to a
// server is the account's business, and the caller is told so.
func (m *Mail) variable(assignment string) error {
	name, value, _ := strings.Cut(assignment, "=")
	switch name {
	case "":
		return mailUsage("-S needs NAME or NAME=VALUE")
	case "from":
		m.From = value
	case "replyto", "reply-to", "reply_to":
		m.Headers = append(m.Headers, Field{"Reply-To", value})
	case "customhdr":
		return m.header(value)
	case "skipemptybody":
		m.SkipEmpty = true
	case "verbose":
		m.Sendmail.Verbose = true
	case "escape", "v15-compat", "sendwait", "nosave", "quiet", "ttycharset", "sendcharsets", "expandaddr", "nometoo", "dot", "ignoreeof":
	default:
		m.Ignored = append(m.Ignored, "-S "+name)
	}
	return nil
}

// long knows GNU mail's words.
func (p *mailParser) long(arg string) error {
	name, value, attached := strings.Cut(arg, "=")
	letters := map[string]byte{"subject": 's', "append": 'a', "attach": 'A', "return-address": 'r', "content-type": 'M', "account": 'A'}
	letter, ok := letters[name]
	switch {
	case name == "system" && !attached:
		p.mail.System = true
		return nil
	case name == "help" && !attached:
		p.mail.Help = true
		return nil
	case name == "exec":
		if !attached && len(p.rest) > 0 {
			p.rest = p.rest[1:]
		}
		return nil
	case !ok:
		return mailUsage("unknown option --%s", cli.Line(name))
	case !attached && len(p.rest) == 0:
		return mailUsage("option --%s needs an argument", name)
	case !attached:
		value, p.rest = p.rest[0], p.rest[1:]
	}
	return p.valued(letter, value)
}

func (m *Mail) header(text string) error {
	field, ok := cutField(text)
	if !ok {
		return mailUsage("%q is no header field: write it as \"Name: value\"", cli.Line(text))
	}
	m.Headers = append(m.Headers, field)
	return nil
}

// cutField reads "Name: value". Names are narrower than RFC 5322 section 2.2 allows,
// so that a file like /tmp/a:b is none.
func cutField(text string) (Field, bool) {
	name, value, ok := strings.Cut(text, ":")
	bad := strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
	return Field{name, strings.TrimSpace(value)}, ok && name != "" && !bad
}
