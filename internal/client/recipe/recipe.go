// Package recipe writes configuration for mail programs: what `letterlock setup`
// prints. Each text has been run with that program against a real server; what a
// program cannot do (a mechanism, a token of that length) is said in its own
// comments, so that it is read where it is pasted.
//
// A recipe takes the token by a command of the program's own ("token"), or logs in
// through `letterlock tunnel` ("tunnel"), which needs neither a SASL plug-in nor a
// local password and takes tokens of any length. The package reads nothing and knows
// no accounts: cmd fills in [Facts].
package recipe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A Via is how a program gets in.
type Via string

// Token: the program runs a command that prints a token. Tunnel: it runs a command
// that is the connection.
const (
	Token  Via = "token"
	Tunnel Via = "tunnel"
)

// Facts are what a recipe is filled with.
type Facts struct {
	Account          string // as letterlock calls it
	User             string // SASL identity, the mailbox
	From             string // the address to send as
	IMAP, POP3, SMTP provider.MailServer
	Mechanisms       []string // best first; empty: OAUTHBEARER, XOAUTH2
	Command          string   // "letterlock", or its absolute path
	Path             string   // the same as a path, for programs that search none
	System           bool     // with --system
	CAFile           string   // further certificate authorities; empty: the system's
}

// A Recipe is one mail program.
type Recipe struct {
	Client string // what setup calls it
	Title  string // the program, with the version that it was run with
	File   string // where the text goes
	Vias   []Via  // the first is the default
	// TokenLimit is the longest token that the program takes by the token way, in
	// bytes; 0: none was found. From docs/interop notes, measured.
	TokenLimit int
	Needs      string // packages beside the program
	write      func(*text, Facts, Via)
}

// All lists the recipes.
func All() []Recipe {
	both, token, tunnel := []Via{Token, Tunnel}, []Via{Token}, []Via{Tunnel}
	return []Recipe{
		{Client: "mutt", Title: "mutt 2.2", File: "~/.muttrc", Vias: both, write: mutt},
		{Client: "neomutt", Title: "NeoMutt 20220429", File: "~/.neomuttrc", Vias: both, TokenLimit: 500, write: mutt},
		{Client: "msmtp", Title: "msmtp 1.8", File: "~/.msmtprc", Vias: token, TokenLimit: 2990, write: msmtp},
		{Client: "mpop", Title: "mpop 1.4", File: "~/.mpoprc", Vias: token, TokenLimit: 2990, write: mpop},
		{Client: "mbsync", Title: "isync/mbsync 1.4", File: "~/.mbsyncrc", Vias: both, Needs: "libsasl2-modules-kdexoauth2 (for the token way)", write: mbsync},
		{Client: "offlineimap", Title: "offlineimap3 8.0", File: "~/.offlineimaprc", Vias: both, write: offlineimap},
		{Client: "getmail", Title: "getmail6 6.18", File: "~/.config/getmail/getmailrc", Vias: token, write: getmail},
		{Client: "curl", Title: "curl 7.88", File: "a shell", Vias: token, write: curl},
		{Client: "aerc", Title: "aerc 0.14", File: "~/.config/aerc/accounts.conf", Vias: token, write: aerc},
		{Client: "s-nail", Title: "s-nail 14.9", File: "~/.mailrc", Vias: token, TokenLimit: 250, write: snail},
		{Client: "imapfilter", Title: "imapfilter 2.8", File: "~/.imapfilter/config.lua", Vias: token, write: imapfilter},
		{Client: "emacs", Title: "Emacs 28 (smtpmail)", File: "~/.emacs.d/init.el", Vias: token, write: emacs},
		{Client: "python", Title: "Python 3.11 (imaplib, smtplib)", File: "a script", Vias: token, write: python},
		{Client: "git", Title: "git 2.39 (send-email)", File: "~/.gitconfig", Vias: token, Needs: "msmtp", write: git},
		{Client: "fetchmail", Title: "fetchmail 6.4", File: "~/.fetchmailrc", Vias: tunnel, write: fetchmail},
		{Client: "alpine", Title: "Alpine 2.26", File: "~/.pinerc", Vias: tunnel, write: alpine},
	}
}

// Lookup finds a recipe by its client's name.
func Lookup(client string) (Recipe, bool) {
	for _, r := range All() {
		if r.Client == client {
			return r, true
		}
	}
	return Recipe{}, false
}

// Render writes the configuration. via empty takes the recipe's first.
func (r Recipe) Render(via Via, f Facts) (string, error) {
	if via == "" {
		via = r.Vias[0]
	}
	if !slices.Contains(r.Vias, via) {
		return "", cli.Faultf(cli.Unavailable, fmt.Sprintf("letterlock setup %s %s --via %s", r.Client, f.Account, r.Vias[0]), "%s cannot get in by %s", r.Title, via)
	}
	if err := f.check(); err != nil {
		return "", err
	}
	t := &text{}
	r.write(t, f, via)
	if t.missing != "" {
		return "", cli.Faultf(cli.Config, fmt.Sprintf("set %s = \"HOST:PORT\" for the account (letterlock login … --%s HOST:PORT)", t.missing, t.missing),
			"the %s server of %s is not known, and %s needs one", t.missing, f.Account, r.Title)
	}
	if t.fault != "" {
		return "", cli.Faultf(cli.Unavailable, t.hint, "%s", t.fault)
	}
	return t.b.String(), nil
}

// check refuses what would have to be quoted differently in each of the programs'
// languages: nobody has such an account, but somebody may try to make one up. A slash
// or colon in a user name would move the host of a URL, and the token with it.
func (f Facts) check() error {
	for _, name := range []string{f.Account, f.User, f.From} {
		if name == "" || name[0] == '-' || strings.ContainsFunc(name, notPlain) {
			return cli.Faultf(cli.DataError, "sign in with --account NAME and a name of letters, digits, dots and dashes", "%q has characters that configuration files would have to quote", cli.Line(name))
		}
	}
	for _, word := range []string{f.IMAP.Host, f.POP3.Host, f.SMTP.Host, f.Command, f.Path, f.CAFile} {
		if strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("\"'`$\\;|&<>(){}*?#!%", r) }) {
			return cli.Faultf(cli.DataError, "put it where the path has no blanks and no such characters; letterlock itself is best found by the PATH", "%q has characters that configuration files would have to quote", cli.Line(word))
		}
	}
	return nil
}

func notPlain(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("@.+-_=", r)
}

// command is how letterlock is started.
func (f Facts) command() string {
	if f.System {
		return f.Command + " --system"
	}
	return f.Command
}

// token is the command that prints a token.
func (f Facts) token(purpose provider.Purpose, more ...string) string {
	return strings.Join(append([]string{f.command(), "token", f.Account, "--for", string(purpose)}, more...), " ")
}

// tunnel is the command that is a connection.
func (f Facts) tunnel(protocol string) string {
	return strings.Join([]string{f.command(), "tunnel", protocol, f.Account}, " ")
}

// offers reports whether the servers take the mechanism.
func (f Facts) offers(mechanism string) bool {
	return len(f.Mechanisms) == 0 || slices.Contains(f.Mechanisms, mechanism)
}

// best is the mechanism to configure where only one can be.
func (f Facts) best() string {
	if f.offers("OAUTHBEARER") {
		return "oauthbearer"
	}
	return "xoauth2"
}

// escaped is the user for the left half of a URL.
func (f Facts) escaped() string { return strings.ReplaceAll(f.User, "@", "%40") }

func address(s provider.MailServer) string { return s.Host + ":" + strconv.Itoa(s.Port) }

func isTLS(s provider.MailServer) bool { return s.Security == provider.ImplicitTLS }

func isSTARTTLS(s provider.MailServer) bool { return s.Security == provider.STARTTLS }

// A text collects lines.
type text struct {
	b       strings.Builder
	missing string // protocol without a server
	fault   string
	hint    string
}

func (t *text) line(format string, args ...any) { fmt.Fprintf(&t.b, format+"\n", args...) }

// when writes a line if a condition holds.
func (t *text) when(condition bool, format string, args ...any) {
	if condition {
		t.line(format, args...)
	}
}

// needs notes a protocol that has no server.
func (t *text) needs(name string, s provider.MailServer) bool {
	if s.IsZero() && t.missing == "" {
		t.missing = name
	}
	return !s.IsZero()
}

// cannot notes what the program is not able to do.
func (t *text) cannot(hint, format string, args ...any) {
	t.fault, t.hint = fmt.Sprintf(format, args...), hint
}
