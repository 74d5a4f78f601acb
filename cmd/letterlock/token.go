package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/sasl"
)

type tokenOptions struct {
	minValidity time.Duration
	purpose     string
	asJSON      bool
	netrc       bool
	sasl        string
	curl        bool
	show        bool
}

// tokenValidity is how long a token is good for at least, unless somebody says else.
const tokenValidity = 5 * time.Minute

func (p *program) tokenCommand() *cobra.Command {
	var o tokenOptions
	c := &cobra.Command{
		Use:   "token ACCOUNT",
		Short: "print a valid access token",
		Long: `Print one line: an access token that is valid now and for --min-validity longer.
It comes from the store when that has one, else from the provider. When there is
none to be had, nothing is printed on standard output, and the exit code says why:
77 a sign-in is needed, 75 try again later, 67 no such account, 78 configuration.

The token is a secret. It is written to pipes and files, and to a terminal only with
--show.`,
		Example: `  set imap_oauth_refresh_command="letterlock token you@example.org"     # .muttrc
  curl -K <(letterlock token you@example.org --curl) imaps://imap.example.org/
  letterlock token you@example.org --for smtp --min-validity 10m --json`,
		Args:              exactly(1),
		ValidArgsFunction: p.completeAccounts,
		RunE: func(c *cobra.Command, args []string) error {
			return p.token(c.Context(), args[0], o)
		},
	}
	f := c.Flags()
	f.DurationVar(&o.minValidity, "min-validity", tokenValidity, "the token must be valid for at least that long")
	f.StringVar(&o.purpose, "for", "", "what the token is for: imap, pop3, smtp, send, graph (default: what the account signed in for first)")
	f.BoolVar(&o.asJSON, "json", false, "print an object with the token, its expiry and the login")
	f.BoolVar(&o.netrc, "netrc", false, "print netrc lines for the account's servers")
	f.StringVar(&o.sasl, "sasl", "", "print the initial response, in base64, of xoauth2 or oauthbearer")
	f.BoolVar(&o.curl, "curl", false, "print a configuration file for curl -K")
	f.BoolVar(&o.show, "show", false, "print it even to a terminal")
	completeWords(c, "for", "imap", "pop3", "smtp", "send", "graph")
	completeWords(c, "sasl", "xoauth2", "oauthbearer")
	return c
}

func (p *program) token(ctx context.Context, name string, o tokenOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if p.term.OutTTY && !o.show {
		return cli.Faultf(cli.Usage, "pipe it to the program that wants it, or add --show", "a token is a secret and standard output is a terminal")
	}
	text, err := p.tokenText(ctx, name, o)
	if err != nil {
		return err
	}
	_, err = io.WriteString(p.term.Out, text)
	return err
}

func (o tokenOptions) check() error {
	if o.minValidity < 0 {
		return cli.Faultf(cli.Usage, "see letterlock token --help", "--min-validity must not be negative")
	}
	if !slices.Contains([]string{"", "imap", "pop3", "smtp", "send", "graph"}, o.purpose) {
		return cli.Faultf(cli.Usage, "it is one of imap, pop3, smtp, send, graph", "--for %s is unknown", cli.Line(o.purpose))
	}
	forms := 0
	for _, chosen := range []bool{o.asJSON, o.netrc, o.curl, o.sasl != ""} {
		if chosen {
			forms++
		}
	}
	if forms > 1 {
		return cli.Faultf(cli.Usage, "take one of them", "--json, --netrc, --sasl and --curl exclude each other")
	}
	if !slices.Contains([]string{"", "xoauth2", "oauthbearer"}, strings.ToLower(o.sasl)) {
		return cli.Faultf(cli.Usage, "it is xoauth2 or oauthbearer", "--sasl %s is unknown", cli.Line(o.sasl))
	}
	return nil
}

func (p *program) tokenText(ctx context.Context, name string, o tokenOptions) (string, error) {
	access, err := p.access(ctx, name, account.Want{Purpose: provider.Purpose(o.purpose), MinValidity: o.minValidity})
	if err != nil {
		return "", err
	}
	if !o.asJSON && !o.netrc && !o.curl && o.sasl == "" {
		return access.Token.Reveal() + "\n", nil
	}
	m, err := p.account(name)
	if err != nil {
		return "", err
	}
	switch {
	case o.asJSON:
		return tokenJSON(m, access, p.now())
	case o.netrc:
		return tokenNetrc(m, access, o.purpose)
	case o.curl:
		return fmt.Sprintf("user = %q\noauth2-bearer = %q\n", m.mailbox+":", access.Token.Reveal()), nil
	}
	return tokenSASL(m, access, o)
}

// access gets a token and tells an unknown account from one that is not signed in.
func (p *program) access(ctx context.Context, name string, want account.Want) (account.Access, error) {
	if err := checkAccountName(name); err != nil {
		return account.Access{}, err
	}
	manager, err := p.manager()
	if err != nil {
		return account.Access{}, err
	}
	access, err := manager.Token(ctx, name, want)
	if errors.Is(err, tokenstore.ErrNotFound) || errors.Is(err, tokenstore.ErrNoKey) && !p.hasGrant(manager, name) {
		return account.Access{}, p.notSignedIn(name, err)
	}
	return access, err
}

func (p *program) hasGrant(manager *account.Manager, name string) bool {
	names, err := manager.List()
	return err != nil || slices.Contains(names, name)
}

func (p *program) notSignedIn(name string, err error) error {
	conf, confErr := p.config()
	if confErr != nil {
		return confErr
	}
	a, ok := conf.Accounts[name]
	switch {
	case !ok:
		return p.unknownAccount(name)
	case !a.Granted():
		return noToken(name, a)
	}
	return &cli.Fault{Code: cli.NoPerm, What: fmt.Sprintf("%s is not signed in", name), Hint: p.loginLine(name), Err: err}
}

func tokenJSON(m mailAccount, access account.Access, now time.Time) (string, error) {
	out := struct {
		Account   string `json:"account"`
		Login     string `json:"login"`
		Mailbox   string `json:"mailbox"`
		Token     string `json:"token"`
		Type      string `json:"token_type"`
		ExpiresAt string `json:"expires_at,omitempty"`
		ExpiresIn int64  `json:"expires_in,omitempty"`
	}{m.name, m.login, m.mailbox, access.Token.Reveal(), "Bearer", "", 0}
	if !access.Expiry.IsZero() {
		out.ExpiresAt = access.Expiry.UTC().Format(time.RFC3339)
		out.ExpiresIn = int64(access.Expiry.Sub(now) / time.Second)
	}
	data, err := json.Marshal(out)
	return string(data) + "\n", err
}

// tokenNetrc names every server that the token is for: s-nail looks its own up by
// host and user.
func tokenNetrc(m mailAccount, access account.Access, purpose string) (string, error) {
	var b strings.Builder
	seen := map[string]bool{}
	for _, s := range []struct {
		purpose string
		host    string
	}{{"imap", m.provider.IMAP.Host}, {"pop3", m.provider.POP3.Host}, {"smtp", m.provider.SMTP.Host}} {
		if s.host == "" || seen[s.host] || purpose != "" && purpose != s.purpose {
			continue
		}
		seen[s.host] = true
		fmt.Fprintf(&b, "machine %s login %s password %s\n", s.host, netrcWord(m.mailbox), netrcWord(access.Token.Reveal()))
	}
	if b.Len() == 0 {
		return "", cli.Faultf(cli.Config, fmt.Sprintf("set imap, pop3 or smtp in [account.%q]", m.name), "no server of %s is known for netrc lines", m.name)
	}
	return b.String(), nil
}

// netrcWord quotes a word as curl, s-nail and Python's netrc read it.
func netrcWord(word string) string {
	if !strings.ContainsAny(word, " \t\"\\#") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

func tokenSASL(m mailAccount, access account.Access, o tokenOptions) (string, error) {
	server := m.provider.IMAP
	switch o.purpose {
	case "smtp", "send":
		server = m.provider.SMTP
	case "pop3":
		server = m.provider.POP3
	}
	client, err := sasl.NewClient(sasl.Credentials{
		Mechanism: strings.ToUpper(o.sasl), User: m.mailbox, Secret: access.Token, Host: server.Host, Port: server.Port,
	})
	if err != nil {
		return "", cli.Wrap(cli.DataError, err, "")
	}
	_, first, err := client.Start()
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(first) + "\n", nil
}
