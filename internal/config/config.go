// Package config is the client's configuration file: where it is, what may stand in
// it, and how `login` and `register` add to it without touching anything else.
//
// The file is TOML. Every key is described once, in schema.go; decoding, checking,
// the annotated sample and the manual page are all made from that description. A
// wrong file is refused whole: all its faults are reported at once, each with its
// line, and nothing is done on the strength of the half that could be read.
//
// Only cmd imports this package; it turns configuration into arguments. State
// (grants, locks) is none of its business.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// Limit is the largest configuration file that is read.
const Limit = 1 << 20

// A Config is a checked configuration. The zero value is that of a missing file.
type Config struct {
	Path      string // "" when there is no file
	Key       string // key source of new grants; empty: chosen at login
	Providers map[string]Provider
	Accounts  map[string]Account
	Keys      map[string]Key
	Queue     Queue
	Notify    Notify
}

// A Queue is the [queue] section: mail that leaves this machine.
type Queue struct {
	Account        string // sends what names no account
	Root           []string
	Aliases        string
	Domain         string
	OnUnknown      string // "ask" or "resend"; empty: by whose queue it is
	GiveUp         time.Duration
	Parallel       int
	PerDestination int
	MaxSize        int // MiB

	// Limits of each user of the system's queue; 0: the default.
	UserMessages   int // an hour
	UserRecipients int
	UserEntries    int
	UserSize       int // MiB
	// Reports is where failure reports go: a Maildir, or an lmtp or maildir account.
	Reports string
}

// Notify is the [notify] section: whom to tell what a person must do.
type Notify struct{ Command []string }

// A Provider is one [provider.NAME] section: a client id of one's own, and for
// providers that Letterlock does not know everything else about them.
type Provider struct {
	Preset           string // the known provider it builds on; empty: NAME, if known
	ClientID         string
	ClientSecret     secret.String
	ClientSecretFile string
	ClientKeyFile    string
	Auth             string
	Tenant           string
	Issuer           string
	Authorization    string
	Token            string
	Device           string
	Revocation       string
	Registration     string
	RedirectURI      string
	Scopes           []string
	SendScopes       []string
	Resource         string
	Mechanisms       []string
	CAFile           string
	Servers
}

// Servers are the mail servers that a section names.
type Servers struct{ IMAP, POP3, SMTP Server }

// A Server is one mail server as configured. Port 0 and an empty Security mean the
// protocol's usual ones.
type Server struct {
	Host     string
	Port     int
	Security string // "tls", "starttls", "plain"
}

// IsZero reports whether no server was named.
func (s Server) IsZero() bool { return s.Host == "" }

// An Account is one [account.NAME] section.
type Account struct {
	Provider  string
	Login     string
	Mailbox   string
	Senders   []string
	Sender    string   // "rewrite", "refuse", "keep"
	Users     []string // who of this machine sends with it; nil: not said
	Right     string
	Key       string
	Flow      string
	CAFile    string
	TokenFile string // mutt_oauth2.py's file that this account has taken the place of
	Servers

	Way          string // one of Ways; empty: the narrowest that the right has
	Hello        string
	LocalDomains []string
	LMTP         string
	Maildir      string
	DKIMKeys     string
	NoMTASTS     bool
	Private      bool
}

// Granted reports whether mail leaves by a right that somebody signed in for. The other
// ways need no sign-in.
func (a Account) Granted() bool {
	return a.Way != "direct" && a.Way != "lmtp" && a.Way != "maildir"
}

// A Key is one [key.NAME] section.
type Key struct {
	Source     string // "file", "keyring", "gpg", "passphrase", "systemd", "command", "pipe"; empty: NAME
	Recipient  string
	Path       string
	Credential string
	Command    []string
	Encrypt    []string
	Decrypt    []string
}

// A Fault is one thing wrong with a configuration file.
type Fault struct {
	Line int // 0 when it concerns the file as a whole
	Text string
}

// An Error is everything that is wrong with a configuration file.
type Error struct {
	Path   string
	Faults []Fault
}

// Lines returns one line per fault, in the form editors jump to.
func (e *Error) Lines() []string {
	lines := make([]string, len(e.Faults))
	for i, fault := range e.Faults {
		if fault.Line > 0 {
			lines[i] = fmt.Sprintf("%s:%d: %s", e.Path, fault.Line, fault.Text)
		} else {
			lines[i] = e.Path + ": " + fault.Text
		}
	}
	return lines
}

// Error returns all faults, separated by semicolons.
func (e *Error) Error() string { return strings.Join(e.Lines(), "; ") }

// Load reads and checks the file at path. A file that is not there is an empty
// configuration. Faults in the file are an *Error.
func Load(path string) (*Config, error) {
	data, info, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Config{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	if fault := c.checkMode(info); fault != "" {
		return nil, &Error{Path: path, Faults: []Fault{{Text: fault}}}
	}
	return c, nil
}

func read(path string) ([]byte, fs.FileInfo, error) {
	file, err := atomicfile.OpenRegular(path)
	if errors.Is(err, atomicfile.ErrNotRegular) {
		return nil, nil, &Error{Path: path, Faults: []Fault{{Text: "no regular file"}}}
	}
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, Limit+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > Limit {
		return nil, nil, &Error{Path: path, Faults: []Fault{{Text: fmt.Sprintf("larger than %d bytes", Limit)}}}
	}
	return data, info, nil
}

// checkMode refuses a file that others could use against us: by reading a client
// secret in it, or by writing their own program or endpoint into it. The rule is that
// of ssh(1) for its configuration.
func (c *Config) checkMode(info fs.FileInfo) string {
	if runtime.GOOS == "windows" {
		return ""
	}
	if fault := checkOwner(info); fault != "" {
		return fault
	}
	mode := info.Mode().Perm()
	if mode&0o022 != 0 {
		return fmt.Sprintf("mode %04o lets others change it", mode)
	}
	for _, name := range sortedKeys(c.Providers) {
		if !c.Providers[name].ClientSecret.IsZero() && mode&0o077 != 0 {
			return fmt.Sprintf("mode %04o lets others read the client_secret of [provider.%s]", mode, quoteKey(name))
		}
	}
	return ""
}

// Parse decodes and checks data; path is for the faults only.
func Parse(path string, data []byte) (*Config, error) {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil, &Error{Path: path, Faults: []Fault{syntaxFault(err)}}
	}
	d := decoder{data: data}
	c := d.config(tree)
	if len(d.faults) > 0 {
		return nil, &Error{Path: path, Faults: d.sorted()}
	}
	c.Path = path
	return c, nil
}

// syntaxFault keeps go-toml's message, which names characters but quotes no values.
func syntaxFault(err error) Fault {
	var decode *toml.DecodeError
	if !errors.As(err, &decode) {
		return Fault{Text: "no valid TOML"}
	}
	line, _ := decode.Position()
	return Fault{Line: line, Text: "no valid TOML: " + strings.TrimPrefix(decode.Error(), "toml: ")}
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
