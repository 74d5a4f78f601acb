package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/recipe"
)

func (p *program) configPostfixCommand() *cobra.Command {
	var folder string
	var recipients bool
	var sql sqlFlags
	c := &cobra.Command{
		Use: "postfix", Short: "print what makes Postfix ask letterlockd",
		Long: `Look at the Postfix of this machine and print a shell script that makes its submission
services ask letterlockd. Port 25 is left alone, and so is everything else in main.cf
and master.cf. The last lines of the script, in comments, bring back what there was.

With --sql Postfix does not ask letterlockd at all and goes on while it is stopped: sign-in
is Dovecot's, and senders, recipients and aliases come from read-only views, in PostgreSQL
or in view_file of [database]. What cannot be held to that way stands at the script's top.

With --recipients main.cf asks letterlockd about aliases and mailboxes too, behind the lists
that it has: mail for an address that nobody has is refused with 550. A list that is empty
takes every address today; it then takes only those that letterlockd knows, unless there are
domains of others in its class: then it is left alone, and the script says so.`,
		Example: `  letterlockd config postfix > letterlock-postfix.sh && less letterlock-postfix.sh && sh letterlock-postfix.sh
  letterlockd config postfix --recipients > letterlock-postfix.sh
  letterlockd migrate --postfix-role postfix && letterlockd config postfix --sql > letterlock-postfix.sh`,
		Args: command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return p.printPostfix(c.Context(), folder, recipients, sql) },
	}
	c.Flags().BoolVar(&sql.on, "sql", false, "by SQL alone, for while letterlockd is away")
	c.Flags().BoolVar(&recipients, "recipients", false, "Postfix asks about recipients and aliases too; with --sql: fill a list that is empty")
	sql.add(c, "postfix")
	c.Flags().StringVar(&folder, "config-dir", "", "Postfix's configuration `folder`; default: the one that postconf knows")
	return c
}

func (p *program) printPostfix(ctx context.Context, folder string, recipients bool, sql sqlFlags) error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	if conf.Postfix == (config.Postfix{}) && !sql.on {
		return cli.Faultf(cli.Config, "letterlockd config describe explains them", "[postfix] in %s names no socket: set sasl, senders and milter", p.file)
	}
	facts, err := postfixFacts(ctx, folder)
	if err != nil {
		return err
	}
	facts.SASL, facts.Senders, facts.Milter = conf.Postfix.SASL, conf.Postfix.Senders, conf.Postfix.Milter
	if sql.on {
		if facts.SQL, err = p.postfixSQL(ctx, folder, sql); err != nil {
			return err
		}
		facts.SQL.Fill = recipients
	} else if recipients {
		own, err := mainCF(askPostconf(ctx, folder), conf.Domains)
		if err != nil {
			return err
		}
		own.Fill, facts.Recipients = true, &own
	}
	if faults := facts.Faults(); len(faults) > 0 {
		return cli.Faultf(cli.Config, "nothing was printed", "%s", strings.Join(faults, "\n"))
	}
	_, err = fmt.Fprint(p.term.Out, facts.Script())
	return err
}

// askPostconf asks postconf about the Postfix of a folder.
func askPostconf(ctx context.Context, folder string) func(args ...string) (string, error) {
	return func(args ...string) (string, error) {
		if folder != "" {
			args = append([]string{"-c", folder}, args...)
		}
		out, err := exec.CommandContext(ctx, "postconf", args...).Output()
		if err != nil {
			return "", cli.Wrap(cli.Unavailable, fmt.Errorf("ask postconf: %w", err), "is Postfix installed here, and may this user read its configuration?")
		}
		return strings.TrimSpace(string(out)), nil
	}
}

// settingsOf reads lines of "name = value". A value may be empty, which is a setting too.
func settingsOf(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, " ="); ok {
			all[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return all
}

// postfixFacts asks postconf.
func postfixFacts(ctx context.Context, folder string) (recipe.Postfix, error) {
	ask := askPostconf(ctx, folder)
	var facts recipe.Postfix
	if folder != "" {
		full, err := filepath.Abs(folder)
		if err != nil {
			return facts, err
		}
		facts.Folder = full
	}
	for name, into := range map[string]*string{"mail_version": &facts.Version, "queue_directory": &facts.QueueDir, "smtpd_milters": &facts.Milters, "smtpd_sender_restrictions": &facts.Restrictions} {
		value, err := ask("-h", name)
		if err != nil {
			return facts, err
		}
		*into = value
	}
	services, err := ask("-M")
	if err != nil {
		return facts, err
	}
	cleanup, err := ask("-h", "cleanup_service_name")
	if err != nil {
		return facts, err
	}
	for line := range strings.Lines(services) {
		fields := strings.Fields(line)
		if len(fields) > 7 && fields[1] == "inet" && fields[7] == "smtpd" && submits(fields[0], line) {
			facts.Services = append(facts.Services, fields[0]+"/"+fields[1])
		}
	}
	before, err := ask("-P")
	if err != nil {
		return facts, err
	}
	facts.Before = settingsOf(before)
	used := map[string]bool{}
	for _, service := range facts.Services {
		name := cleanup
		if own, set := facts.Before[service+"/cleanup_service_name"]; set {
			name = own
		}
		used[name] = true
		facts.Cleanup = cleanupLine(services, name)
	}
	if len(used) != 1 {
		facts.Cleanup = ""
	}
	return facts, nil
}

// cleanupLine is the line of master.cf with the service of that name; empty when there is
// none, or one of another kind.
func cleanupLine(services, name string) string {
	for line := range strings.Lines(services) {
		if fields := strings.Fields(line); len(fields) > 7 && fields[0] == name && fields[1] == "unix" && fields[7] == "cleanup" {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// submits reports whether an smtpd of master.cf is one that people submit at, by its
// name or port, or by the name that it logs.
func submits(name, line string) bool {
	name = name[strings.LastIndexByte(name, ':')+1:]
	switch name {
	case "submission", "submissions", "smtps", "587", "465":
		return true
	}
	return strings.Contains(line, "syslog_name=postfix/submission") || strings.Contains(line, "syslog_name=postfix/smtps")
}
