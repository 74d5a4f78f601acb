package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/recipe"
)

func (p *program) configPostfixCommand() *cobra.Command {
	var folder string
	c := &cobra.Command{
		Use: "postfix", Short: "print what makes Postfix ask letterlockd",
		Long: `Look at the Postfix of this machine and print a shell script that makes its submission
services ask letterlockd. Port 25 is left alone, and so is everything else in main.cf
and master.cf. The last lines of the script, in comments, bring back what there was.`,
		Example: "  letterlockd config postfix > letterlock-postfix.sh && less letterlock-postfix.sh && sh letterlock-postfix.sh",
		Args:    command.Exactly(0),
		RunE:    func(c *cobra.Command, _ []string) error { return p.printPostfix(c.Context(), folder) },
	}
	c.Flags().StringVar(&folder, "config-dir", "", "Postfix's configuration `folder`; default: the one that postconf knows")
	return c
}

func (p *program) printPostfix(ctx context.Context, folder string) error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	if conf.Postfix == (config.Postfix{}) {
		return cli.Faultf(cli.Config, "letterlockd config describe explains them", "[postfix] in %s names no socket: set sasl, senders and milter", p.file)
	}
	facts, err := postfixFacts(ctx, folder)
	if err != nil {
		return err
	}
	facts.SASL, facts.Senders, facts.Milter = conf.Postfix.SASL, conf.Postfix.Senders, conf.Postfix.Milter
	if faults := facts.Faults(); len(faults) > 0 {
		return cli.Faultf(cli.Config, "nothing was printed", "%s", strings.Join(faults, "\n"))
	}
	_, err = fmt.Fprint(p.term.Out, facts.Script())
	return err
}

// postfixFacts asks postconf.
func postfixFacts(ctx context.Context, folder string) (recipe.Postfix, error) {
	ask := func(args ...string) (string, error) {
		if folder != "" {
			args = append([]string{"-c", folder}, args...)
		}
		out, err := exec.CommandContext(ctx, "postconf", args...).Output()
		if err != nil {
			return "", cli.Wrap(cli.Unavailable, fmt.Errorf("ask postconf: %w", err), "is Postfix installed here, and may this user read its configuration?")
		}
		return strings.TrimSpace(string(out)), nil
	}
	var facts recipe.Postfix
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
	facts.Before = map[string]string{}
	for line := range strings.Lines(before) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok {
			facts.Before[name] = value
		}
	}
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

func (p *program) configDovecotCommand() *cobra.Command {
	var folder string
	var write, bySQL bool
	c := &cobra.Command{
		Use: "dovecot", Short: "print what makes Dovecot ask letterlockd",
		Long: `Print the files that make Dovecot 2.3 ask letterlockd for tokens and app passwords,
beside the logins that there are. --write puts them there; two of them hold the secret
that Dovecot shows, and are for root alone. Then: doveadm reload. Without the files
named *-letterlock.conf, and after another reload, everything is as it was. With --sql
app passwords go on also while letterlockd is away, by its view file.`,
		Example: `  letterlockd config dovecot
  letterlockd config dovecot --write && doveadm reload
  letterlockd config dovecot --sql --write && doveadm reload`,
		Args: command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return p.printDovecot(c.Context(), folder, write, bySQL) },
	}
	c.Flags().StringVar(&folder, "config-dir", "/etc/dovecot", "Dovecot's configuration `folder`")
	c.Flags().BoolVar(&write, "write", false, "write the files instead of printing them")
	c.Flags().BoolVar(&bySQL, "sql", false, "also ask view_file of [database], for while letterlockd is away")
	return c
}

func (p *program) printDovecot(ctx context.Context, folder string, write, bySQL bool) error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	if conf.Dovecot.Listen == "" {
		return cli.Faultf(cli.Config, "letterlockd config describe explains them", "[dovecot] in %s: set listen and secret_file", p.file)
	}
	secret, err := config.SecretFile(conf.Dovecot.SecretFile)
	if err != nil {
		return cli.Wrap(cli.Config, err, "make one: openssl rand -hex 32")
	}
	version, err := dovecotVersion(ctx)
	if err != nil {
		return err
	}
	facts := recipe.Dovecot{Version: version, Dir: folder, Listen: conf.Dovecot.Listen, Secret: secret.Reveal(), Discovery: discovery(conf)}
	if facts.ViewFile = conf.Database.ViewFile; !bySQL {
		facts.ViewFile = ""
	} else if facts.ViewFile == "" {
		return cli.Faultf(cli.Config, "letterlockd config describe explains it; with PostgreSQL too: driver = pgsql crashes Dovecot 2.3.19 beside tokens", "--sql needs view_file in [database] of %s", p.file)
	}
	if facts.Doveadm, facts.DoveadmKey, err = localDoveadm(conf); err != nil {
		return err
	}
	if write {
		return p.writeDovecot(folder, facts.Files())
	}
	if p.term.OutTTY {
		// A secret on a screen is a secret in a scroll-back buffer.
		facts.Secret = "(hidden: use --write, or send the output to a file)"
		facts.DoveadmKey = facts.Secret
	}
	for _, f := range facts.Files() {
		if _, err := fmt.Fprintf(p.term.Out, "# ==> %s\n%s\n", filepath.Join(folder, f.Name), f.Text); err != nil {
			return err
		}
	}
	return nil
}

// localDoveadm finds the node of [doveadm.NAME] that is this machine.
func localDoveadm(conf *config.Daemon) (address, key string, err error) {
	for name, node := range conf.Doveadm {
		u, err := url.Parse(node.URL)
		if err != nil || u.Scheme != "http" || u.Port() == "" {
			continue // the schema takes http for loopback hosts only
		}
		key, err := config.SecretFile(node.KeyFile)
		if err != nil {
			return "", "", cli.Wrap(cli.Config, err, "put a long random word into key_file of [doveadm."+name+"]: openssl rand -hex 32")
		}
		return u.Host, key.Reveal(), nil
	}
	return "", "", nil
}

func (p *program) writeDovecot(folder string, files []recipe.File) error {
	for _, f := range files {
		path, mode := filepath.Join(folder, f.Name), os.FileMode(0o644)
		if f.Private {
			mode = 0o600
		}
		if err := atomicfile.Write(path, []byte(f.Text), mode); err != nil {
			return cli.Wrap(cli.CannotWrite, err, "is "+folder+" Dovecot's folder, with a conf.d in it, and may this user write there?")
		}
		p.term.Sayf("wrote %s", path)
	}
	p.term.Sayf("now run: doveadm reload")
	return nil
}

// dovecotVersion refuses versions whose configuration has another form.
func dovecotVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "dovecot", "--version").Output()
	var missing *exec.Error
	if errors.As(err, &missing) {
		return "", cli.Wrap(cli.Unavailable, err, "run this where Dovecot is installed")
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if err != nil || !regexp.MustCompile(`^2\.3\.\d+`).MatchString(version) {
		return "", cli.Faultf(cli.Unavailable, "its configuration has another form, which is not written here yet", "Dovecot %s is not 2.3", cli.Line(version))
	}
	return version, nil
}
