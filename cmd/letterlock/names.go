package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/config"
)

// checkAccountName refuses what can be no account before anything is looked up.
func checkAccountName(name string) error {
	if err := account.CheckName(name); err != nil {
		return &cli.Fault{Code: cli.NoUser, What: fmt.Sprintf("%q is no account: %v", cli.Line(name), err), Hint: "letterlock accounts lists the accounts there are", Err: err}
	}
	return nil
}

// checkAddress wants something that can be a mail address. It is not the place to
// judge exotic ones; it keeps out what would be dangerous or is surely a slip.
func checkAddress(address string) error {
	const hint = "write it as you@example.org"
	if fault := config.CheckName(address); fault != "" {
		return cli.Faultf(cli.NoUser, hint, "the address %q %s", cli.Line(address), fault)
	}
	at := strings.LastIndexByte(address, '@')
	domain := address[at+1:]
	switch {
	case at <= 0 || domain == "" || strings.ContainsAny(address, " \t<>,;"):
		return cli.Faultf(cli.NoUser, hint, "%q is no mail address", cli.Line(address))
	case strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, ".") || strings.Contains(domain, ".."):
		return cli.Faultf(cli.NoUser, hint, "%q is no mail address: its domain is not one", cli.Line(address))
	}
	return nil
}

// unknownAccount names the nearest account there is.
func (p *program) unknownAccount(name string) error {
	hint := "letterlock accounts lists them, letterlock login ADDRESS adds one"
	if conf, err := p.config(); err == nil {
		for known := range conf.Accounts {
			if strings.EqualFold(known, name) || strings.HasPrefix(known, name) {
				hint = "did you mean " + known + "?"
			}
		}
	}
	return cli.Faultf(cli.NoUser, hint, "there is no account %q", cli.Line(name))
}

// loginLine is the command that signs an account in again.
func (p *program) loginLine(name string) string {
	command := "letterlock login "
	if p.system {
		command = "letterlock --system login "
	}
	login := name
	if conf, err := p.config(); err == nil {
		if a := conf.Accounts[name]; a.Login != "" {
			login = a.Login
		}
	}
	if login != name {
		return command + shellWord(login) + " --account " + shellWord(name)
	}
	return command + shellWord(login)
}

// shellWord quotes a word for a command line that a person copies.
func shellWord(word string) string {
	plain := word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r))
	})
	if plain {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// hostOf names an issuer as configuration does.
func hostOf(issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("%q is no issuer: it must be an https URL", cli.Line(issuer))
	}
	return strings.ToLower(u.Host), nil
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
