package main

import (
	"context"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/recipe"
)

// sqlFlags say how a mail server reaches the views.
type sqlFlags struct {
	on                 bool
	role, passwordFile string
}

func (f *sqlFlags) add(c *cobra.Command, role string) {
	c.Flags().StringVar(&f.role, "sql-role", role, "PostgreSQL `role` that reads the views, made known by migrate")
	c.Flags().StringVar(&f.passwordFile, "sql-password-file", "", "`file` with the role's password; default: none, PostgreSQL knows the user by the socket (peer)")
}

// table finds the views: those of PostgreSQL, or the view file of SQLite.
func (f sqlFlags) table(p *program, conf *config.Daemon) (recipe.Table, error) {
	if !conf.Database.Shared() {
		if conf.Database.ViewFile == "" {
			return recipe.Table{}, cli.Faultf(cli.Config, "letterlockd config describe explains it", "with SQLite this needs view_file in [database] of %s", p.file)
		}
		return recipe.Table{Path: conf.Database.ViewFile}, nil
	}
	place, err := conf.DatabaseURL()
	if err != nil {
		return recipe.Table{}, cli.Wrap(cli.Config, err, "")
	}
	u, err := url.Parse(place.Reveal())
	if err != nil {
		// Not err: it quotes a URL that may hold a password.
		return recipe.Table{}, cli.Faultf(cli.Config, "postgres://USER@HOST/NAME", "the database's URL cannot be read")
	}
	t := recipe.Table{Host: u.Hostname(), Port: u.Port(), Name: strings.TrimPrefix(u.Path, "/"), Role: f.role}
	if host := u.Query().Get("host"); host != "" {
		t.Host = host
	}
	if t.Host == "" {
		t.Host = "/var/run/postgresql"
	}
	if f.passwordFile != "" {
		password, err := config.SecretFile(f.passwordFile)
		if err != nil {
			return t, cli.Wrap(cli.Config, err, "put the role's password on the first line of a file for root alone")
		}
		if t.Password = password.Reveal(); p.term.OutTTY {
			t.Password = "(hidden:send-the-output-to-a-file)"
		}
	}
	return t, nil
}

// postfixAuth is the socket of Dovecot that config dovecot --postfix-socket makes,
// relative to Postfix's queue folder.
const postfixAuth = "private/letterlock-auth"

// postfixSQL gathers what the SQL form of config postfix needs.
func (p *program) postfixSQL(ctx context.Context, folder string, f sqlFlags) (*recipe.PostfixSQL, error) {
	conf, err := p.config()
	if err != nil {
		return nil, err
	}
	if len(conf.Domains) == 0 {
		return nil, cli.Faultf(cli.Config, "letterlockd config describe explains it", "domains in %s is missing: Postfix would ask about everybody's addresses", p.file)
	}
	s := &recipe.PostfixSQL{Dir: folder, Domains: conf.Domains}
	if s.Table, err = f.table(p, conf); err != nil {
		return nil, err
	}
	if s.CatchAll, err = p.catchAll(ctx); err != nil {
		return nil, err
	}
	ask := askPostconf(ctx, folder)
	if s.Dir == "" {
		if s.Dir, err = ask("-h", "config_directory"); err != nil {
			return nil, err
		}
	}
	if s.MainCF, err = mainCF(ask, conf.Domains); err != nil {
		return nil, err
	}
	s.Auth, err = dovecotAuth(conf, ask)
	return s, err
}

// mainCF reads what main.cf says of recipients.
func mainCF(ask func(...string) (string, error), own []string) (recipe.MainCF, error) {
	var m recipe.MainCF
	main, err := ask(recipe.MainSettings()...)
	if err != nil {
		return m, err
	}
	set, err := ask("-n")
	if err != nil {
		return m, err
	}
	domains, err := ask("-x", "virtual_mailbox_domains", "relay_domains", "mydestination")
	if err != nil {
		return m, err
	}
	m.Main = settingsOf(main)
	m.Own = slices.Sorted(maps.Keys(settingsOf(set)))
	m.Classes, m.Shared = classesOf(own, settingsOf(domains))
	return m, nil
}

// classesOf finds which lists of domains name the own ones, and which of those have more in
// them: domains of others, or a table that may have some.
func classesOf(domains []string, lists map[string]string) (classes, shared []string) {
	for _, one := range [][2]string{{"virtual_mailbox_domains", "virtual"}, {"relay_domains", "relay"}, {"mydestination", "local"}} {
		words := strings.FieldsFunc(strings.ToLower(lists[one[0]]), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
		own := func(word string) bool { return slices.Contains(domains, word) }
		if !slices.ContainsFunc(words, own) {
			continue
		}
		classes = append(classes, one[1])
		if slices.ContainsFunc(words, func(word string) bool { return !own(word) }) {
			shared = append(shared, one[1])
		}
	}
	return classes, shared
}

// dovecotAuth is the socket of Dovecot that main.cf names already, else ours.
func dovecotAuth(conf *config.Daemon, ask func(...string) (string, error)) (string, error) {
	text, err := ask("smtpd_sasl_type", "smtpd_sasl_path", "queue_directory")
	if err != nil {
		return "", err
	}
	now := settingsOf(text)
	at := now["smtpd_sasl_path"]
	if now["smtpd_sasl_type"] != "dovecot" || filepath.Join(now["queue_directory"], at) == conf.Postfix.SASL || at == "inet:"+conf.Postfix.SASL {
		return postfixAuth, nil
	}
	return at, nil
}

// catchAll reports whether there is an address for a whole domain.
func (p *program) catchAll(ctx context.Context) (bool, error) {
	db, err := p.store(ctx)
	if err != nil {
		return false, err
	}
	const page = 1000
	for after := ""; ; {
		all, err := db.Addresses(ctx, after, page)
		if err != nil {
			return false, err
		}
		for _, a := range all {
			if strings.HasPrefix(a.Address, "@") {
				return true, nil
			}
			after = a.Address
		}
		if len(all) < page {
			return false, nil
		}
	}
}
