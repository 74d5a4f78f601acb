package sendmail

import (
	"slices"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// A Mode is what sendmail is asked to do.
type Mode string

// The modes, by the letter of -b; RunQueue is -q.
const (
	Deliver  Mode = "m"
	Dialogue Mode = "s" // SMTP on standard input
	List     Mode = "p"
	Rebuild  Mode = "i" // newaliases
	Verify   Mode = "v"
	RunQueue Mode = "q"
)

// Options are a sendmail command line.
type Options struct {
	Mode       Mode
	Recipients []string // as given; Sender reads them
	FromHeader bool     // -t: recipients of the header too
	Sender     *string  // -f, -r; nil when not given, "" or "<>" is the null sender
	Name       string   // -F
	IgnoreDots bool     // -i, -oi: a lone dot ends nothing, not even on a terminal
	NoAliases  bool     // -n
	Verbose    bool     // -v: deliver before the eyes of the caller
	QueueOnly  bool     // -odq: no drain is started
	Notify     string   // -N, for each recipient
	Return     string   // -R: FULL or HDRS
	EnvelopeID string   // -V
	Account    string   // --account: ours
	System     bool     // --system: ours
	Help       bool     // --help
	Queue      QueueSelection
}

// A QueueSelection is what -qI, -qR and -qS narrow a queue run to: entries whose id,
// a recipient, or the sender contains the text.
type QueueSelection struct{ ID, Recipient, Sender string }

const usageHint = "man letterlock-sendmail describes the options"

func usage(format string, args ...any) error {
	return cli.Faultf(cli.Usage, usageHint, format, args...)
}

// Parse reads the arguments of sendmail without the program's name. It takes what
// callers were recorded to pass, in any order: clusters (-ti), arguments attached
// and separate, flags after recipients, and -- before recipients that begin with a
// dash. An unknown flag is a fault (64): the message must not go where it was not
// meant to.
func Parse(args []string) (Options, error) {
	o := Options{Mode: Deliver}
	rest := args
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		switch {
		case arg == "--":
			o.Recipients = append(o.Recipients, rest...)
			rest = nil
		case len(arg) < 2 || arg[0] != '-':
			o.Recipients = append(o.Recipients, arg)
		case strings.HasPrefix(arg, "--"):
			var err error
			if rest, err = o.long(arg[2:], rest); err != nil {
				return Options{}, err
			}
		default:
			var err error
			if rest, err = o.cluster(arg[1:], rest); err != nil {
				return Options{}, err
			}
		}
	}
	return o, o.check()
}

func (o *Options) long(arg string, rest []string) ([]string, error) {
	name, value, attached := strings.Cut(arg, "=")
	switch {
	case name == "system" && !attached:
		o.System = true
		return rest, nil
	case name == "help" && !attached:
		o.Help = true
		return rest, nil
	case name != "account":
		return nil, usage("unknown option --%s", cli.Line(name))
	}
	if !attached {
		if len(rest) == 0 {
			return nil, usage("--account needs an argument")
		}
		value, rest = rest[0], rest[1:]
	}
	if value == "" {
		return nil, usage("--account needs an argument")
	}
	o.Account = value
	return rest, nil
}

// cluster reads one argument of flags; the first that takes an argument ends it.
func (o *Options) cluster(flags string, rest []string) ([]string, error) {
	for i := 0; i < len(flags); i++ {
		letter := flags[i]
		if o.simple(letter) {
			continue
		}
		attached := flags[i+1:]
		if letter == 'q' { // its argument is optional, so only attached
			return rest, o.queueRun(attached)
		}
		if !strings.ContainsRune("oOLhpXACBNRVrfFb", rune(letter)) {
			return nil, usage("unknown option -%s", cli.Line(string(rune(letter))))
		}
		if attached == "" {
			if len(rest) == 0 {
				return nil, usage("option -%c needs an argument", letter)
			}
			attached, rest = rest[0], rest[1:]
		}
		return rest, o.valued(letter, attached)
	}
	return rest, nil
}

// simple takes the flags without an argument.
func (o *Options) simple(letter byte) bool {
	switch letter {
	case 'i':
		o.IgnoreDots = true
	case 't':
		o.FromHeader = true
	case 'n':
		o.NoAliases = true
	case 'v':
		o.Verbose = true
	case 'I':
		o.Mode = Rebuild
	case 'm', 'U', 'G':
		// -m (me too) is how aliases work today; -U and -G say where a message comes
		// from, and every message here is a first submission.
	default:
		return false
	}
	return true
}

func (o *Options) valued(letter byte, value string) error {
	switch letter {
	case 'f', 'r':
		o.Sender = &value
	case 'F':
		o.Name = value
	case 'b':
		return o.mode(value)
	case 'o':
		return o.shortOption(value)
	case 'O':
		return o.longOption(value)
	case 'N':
		return o.notify(value)
	case 'R':
		return o.returns(value)
	case 'V':
		return o.envelopeID(value)
	case 'B':
		return oneOf('B', strings.ToUpper(value), "7BIT", "8BITMIME") // the bytes themselves say which
	case 'h':
		if n, err := strconv.Atoi(value); err != nil || n < 0 {
			return usage("the hop count of -h is no number: %q", cli.Line(value))
		}
	case 'L', 'p', 'X', 'A', 'C':
		// A log tag, the protocol it came by, a traffic log, and sendmail's own
		// configuration files: they concern a daemon that is not here.
	}
	return nil
}

func oneOf(letter byte, value string, known ...string) error {
	if slices.Contains(known, value) {
		return nil
	}
	return usage("-%c takes %s, not %q", letter, strings.Join(known, " or "), cli.Line(value))
}

func (o *Options) mode(value string) error {
	switch Mode(value) {
	case Deliver, Dialogue, List, Rebuild, Verify:
		o.Mode = Mode(value)
		return nil
	case "d", "D":
		return cli.Faultf(cli.Usage, "letterlock agent drains the queue; there is no SMTP server here", "-b%s: this sendmail is no daemon", value)
	}
	return usage("unknown mode -b%s", cli.Line(value))
}

// shortOption is -o with sendmail's one-letter options. Error modes (-oem) decide who
// hears of a fault: here it is always the caller, by text and exit status.
func (o *Options) shortOption(value string) error {
	switch {
	case value == "i" || value == "iTrue" || value == "itrue":
		o.IgnoreDots = true
	case value == "":
		return usage("-o needs an option")
	case value[0] == 'd' && len(value) == 2:
		return o.delivery(value[1:])
	}
	return nil
}

// delivery is -od and -ODeliveryMode. Interactive delivery is background delivery:
// the message is safe in the queue by the time we return.
func (o *Options) delivery(mode string) error {
	switch strings.ToLower(mode) {
	case "q", "queueonly", "d", "defer":
		o.QueueOnly = true
	case "i", "interactive", "b", "background":
		o.QueueOnly = false
	default:
		return usage("unknown delivery mode %q", cli.Line(mode))
	}
	return nil
}

// longOption is -O name=value. Names are sendmail's; only two of them concern the
// handing in of a message.
func (o *Options) longOption(value string) error {
	name, setting, _ := strings.Cut(value, "=")
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "":
		return usage("-O needs NAME=VALUE")
	case "ignoredots":
		o.IgnoreDots = !strings.HasPrefix(strings.ToLower(setting), "f")
	case "deliverymode":
		return o.delivery(setting)
	}
	return nil
}

// notify is NOTIFY of RFC 3461 section 4.1.
func (o *Options) notify(value string) error {
	var words []string
	for _, word := range strings.Split(strings.ToUpper(value), ",") {
		word = strings.TrimSpace(word)
		if !slices.Contains([]string{"NEVER", "SUCCESS", "FAILURE", "DELAY"}, word) {
			return usage("-N takes never, or a list of success, failure, delay, not %q", cli.Line(value))
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	if len(words) > 1 && slices.Contains(words, "NEVER") {
		return usage("-N never excludes the others")
	}
	o.Notify = strings.Join(words, ",")
	return nil
}

// returns is RET of RFC 3461 section 4.3.
func (o *Options) returns(value string) error {
	o.Return = strings.ToUpper(value)
	return oneOf('R', o.Return, "FULL", "HDRS")
}

// envelopeID is ENVID of RFC 3461 section 4.4: printable ASCII of up to 100
// characters. The carrier encodes it as xtext.
func (o *Options) envelopeID(value string) error {
	if value == "" || len(value) > 100 || strings.ContainsFunc(value, func(r rune) bool { return r < '!' || r > '~' }) {
		return usage("-V takes up to 100 printable characters without spaces")
	}
	o.EnvelopeID = value
	return nil
}

// queueRun is -q: nothing, an interval for a daemon (one run is made at once, and the
// schedule keeps the intervals), f for foreground, or a selection.
func (o *Options) queueRun(value string) error {
	o.Mode = RunQueue
	if value == "" || value == "f" {
		return nil
	}
	text := value[1:]
	switch value[0] {
	case 'I':
		o.Queue.ID = text
	case 'R':
		o.Queue.Recipient = text
	case 'S':
		o.Queue.Sender = text
	default:
		if !isInterval(value) {
			return usage("unknown queue run -q%s", cli.Line(value))
		}
		return nil
	}
	if text == "" {
		return usage("-q%c needs a text to look for", value[0])
	}
	return nil
}

// isInterval knows sendmail's times: 15m, 1h30m, 90.
func isInterval(value string) bool {
	digit := false
	for _, r := range value {
		switch {
		case r >= '0' && r <= '9':
			digit = true
		case digit && strings.ContainsRune("smhdw", r):
			digit = false
		default:
			return false
		}
	}
	return value != "" && value[0] >= '0' && value[0] <= '9'
}

func (o *Options) check() error {
	if o.Help {
		return nil
	}
	if (o.Mode == Deliver || o.Mode == Verify) && len(o.Recipients) == 0 && !o.FromHeader {
		return cli.Faultf(cli.Usage, "name them, or take them from the header with -t", "no recipients")
	}
	if o.Mode == Verify && o.FromHeader {
		return usage("-bv reads no message: name the addresses")
	}
	return nil
}
