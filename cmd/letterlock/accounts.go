package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// An accountState is one line of the table and one object of the JSON.
type accountState struct {
	Account     string     `json:"account"`
	Login       string     `json:"login"`
	Mailbox     string     `json:"mailbox"`
	Provider    string     `json:"provider"`
	Way         string     `json:"way,omitempty"` // as configured
	State       string     `json:"state"`         // "signed in", "not signed in", "key locked", "damaged" ...
	Right       string     `json:"right"`
	CanReadMail bool       `json:"can_read_mail"`
	Scopes      []string   `json:"scopes,omitempty"`
	Key         string     `json:"key,omitempty"`
	Protection  string     `json:"protection,omitempty"` // of the grant on disk, in words
	TokenUntil  *time.Time `json:"access_token_until,omitempty"`
	SignedIn    *time.Time `json:"signed_in,omitempty"`
	Renewed     *time.Time `json:"last_renewed,omitempty"`
	NextSignIn  *time.Time `json:"next_sign_in,omitempty"`
	Forecast    string     `json:"forecast,omitempty"`
	Interrupted bool       `json:"refresh_interrupted,omitempty"`
	RevokePage  string     `json:"revoke_page,omitempty"`
	Problem     string     `json:"problem,omitempty"`
}

func (p *program) accountsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "accounts",
		Short: "list accounts, what each may do, and until when",
		Long: `List every account: its provider, whether its right can read mail, what protects its
grant on disk (letterlock help keys; in words with --json), until when its access token
is valid, how old the sign-in is, and when the provider will probably want the next
one. Accounts whose mail leaves without a sign-in (way = "direct", "lmtp" or "maildir")
are listed with that way.`,
		Example: `  letterlock accounts
  letterlock accounts --json | jq -r '.[] | select(.can_read_mail) | .account'`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return p.listAccounts(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) listAccounts(ctx context.Context, asJSON bool) error {
	states, err := p.accountStates(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(states)
	}
	if len(states) == 0 {
		p.term.Sayf("there are no accounts yet: letterlock login ADDRESS adds one")
		return nil
	}
	var rows [][]string
	for _, s := range states {
		rows = append(rows, []string{s.Account, firstOf(s.Provider, s.Way), s.State, yesNo(s.CanReadMail), s.Key, until(s.TokenUntil, p.now()), age(s.SignedIn, p.now()), s.Forecast})
	}
	if err := cli.Table(p.term.Out, []string{"ACCOUNT", "PROVIDER", "STATE", "READS MAIL", "KEY", "TOKEN", "SIGNED IN", "NEXT SIGN-IN"}, rows); err != nil {
		return err
	}
	for _, s := range states {
		if s.Problem != "" {
			p.term.Sayf("%s: %s", cli.Line(s.Account), cli.Line(s.Problem))
		}
	}
	return nil
}

func (p *program) accountStates(ctx context.Context) ([]accountState, error) {
	conf, err := p.config()
	if err != nil {
		return nil, err
	}
	manager, err := p.manager()
	if err != nil {
		return nil, err
	}
	names, err := manager.List()
	if err != nil {
		return nil, err
	}
	for name := range conf.Accounts {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	states := []accountState{}
	for _, name := range names {
		states = append(states, p.accountState(ctx, manager, name))
	}
	return states, nil
}

func (p *program) accountState(ctx context.Context, manager *account.Manager, name string) accountState {
	s := accountState{Account: name, Login: name, State: "not signed in"}
	if conf, err := p.config(); err == nil {
		if a, ok := conf.Accounts[name]; ok {
			s.Way = a.Way
			if !a.Granted() {
				s.Login, s.Mailbox, s.Right, s.State = "", wayOf(name, a).Address, string(provider.SendOnly), "no sign-in needed"
				return s
			}
		}
	}
	m, err := p.account(name)
	if err == nil {
		s.Login, s.Mailbox, s.Provider, s.Right, s.RevokePage = m.login, m.mailbox, m.provider.Name, string(m.right), m.provider.RevokePage
		s.CanReadMail = m.right != provider.SendOnly
	} else {
		s.Problem = err.Error()
	}
	if keys, err := p.keysOf(name); err == nil {
		s.Key, s.Protection = keys.Source(), protection(keys.Source())
	}
	grant, err := manager.Grant(ctx, name)
	if err != nil {
		s.State, s.Problem = stateOf(err, s.Problem)
		return s
	}
	s.fromGrant(grant, m.provider, p.now())
	if mark, err := manager.Interrupted(ctx, name); err == nil && mark != nil {
		s.Interrupted = true
		s.Problem = "the answer to a refresh begun at " + mark.Began.Local().Format(time.DateTime) + " was never stored"
	}
	return s
}

// protection is what opens a grant on disk, in words.
func protection(source string) string {
	switch source {
	case "file":
		return "a key in plain text beside it: whoever reads this disk can use the grant"
	case "keyring":
		return "a key in the desktop's keyring"
	case "gpg":
		return "a key encrypted by gpg"
	case "passphrase":
		return "a key encrypted by your passphrase, which the agent holds once it was typed"
	case "systemd":
		return "a key that is a systemd credential of the units that load it"
	case "command":
		return "a key that a command of yours prints"
	case "pipe":
		return "a key encrypted by a command of yours"
	}
	return ""
}

func stateOf(err error, problem string) (state, why string) {
	switch {
	case errors.Is(err, tokenstore.ErrNotFound):
		return "not signed in", problem
	case errors.Is(err, tokenstore.ErrLocked):
		return "key locked", err.Error()
	case errors.Is(err, tokenstore.ErrNoKey):
		return "key missing", err.Error()
	case errors.Is(err, tokenstore.ErrDamaged):
		return "damaged", err.Error()
	}
	return "unreadable", err.Error()
}

func (s *accountState) fromGrant(g *account.Grant, prov provider.Provider, now time.Time) {
	s.State = "signed in"
	s.Login, s.Right, s.CanReadMail = g.Login, string(g.Right), g.Right != provider.SendOnly
	if s.Provider == "" {
		s.Provider = g.Provider
	}
	for _, r := range g.Resources {
		s.Scopes = append(s.Scopes, r.Scopes...)
	}
	for _, a := range g.Access {
		if s.TokenUntil == nil || a.Expiry.After(*s.TokenUntil) {
			s.TokenUntil = point(a.Expiry)
		}
	}
	s.SignedIn, s.Renewed = point(g.SignedIn), point(g.Refreshed)
	if g.Refresh.IsZero() && !g.Machine() {
		s.State = "no renewal"
	}
	s.NextSignIn, s.Forecast = forecast(g, prov, now)
}

// forecast is the earliest end of the grant that is known, and the rule behind it.
func forecast(g *account.Grant, prov provider.Provider, now time.Time) (*time.Time, string) {
	switch {
	case g.Machine():
		return nil, "never: a machine with a key file"
	case g.Refresh.IsZero():
		return nil, "when the token ends"
	}
	when, rule := provider.Forecast(prov, g.SignedIn, g.Refreshed, now)
	if !g.RefreshExpiry.IsZero() && (when.IsZero() || g.RefreshExpiry.Before(when)) {
		when, rule = g.RefreshExpiry, "the provider says so"
	}
	if when.IsZero() {
		return nil, "not foreseen"
	}
	return point(when), inDays(when, now) + ": " + rule
}

func inDays(at, now time.Time) string {
	days := int(at.Sub(now) / (24 * time.Hour))
	switch {
	case at.Before(now):
		return "due"
	case days == 0:
		return "today"
	case days == 1:
		return "in 1 day"
	}
	return fmt.Sprintf("in %d days", days)
}

func point(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func until(t *time.Time, now time.Time) string {
	switch {
	case t == nil:
		return "-"
	case t.Before(now):
		return "expired"
	}
	return fmt.Sprintf("%d min", int(t.Sub(now)/time.Minute))
}

func age(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	switch days := int(now.Sub(*t) / (24 * time.Hour)); days {
	case 0:
		return "today"
	case 1:
		return "1 day ago"
	default:
		return fmt.Sprintf("%d days ago", days)
	}
}

func (p *program) printJSON(value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = p.term.Out.Write(append(data, '\n'))
	return err
}
