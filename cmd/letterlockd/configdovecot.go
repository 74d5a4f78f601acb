package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
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

func (p *program) configDovecotCommand() *cobra.Command {
	var f dovecotFlags
	c := &cobra.Command{
		Use: "dovecot", Short: "print what makes Dovecot ask letterlockd",
		Long: `Print the files that make Dovecot 2.3 ask letterlockd for tokens and app passwords,
beside the logins that there are. --write puts them there; two of them hold the secret
that Dovecot shows, and are for root alone. Then: doveadm reload. Without the files
named *-letterlock.conf, and after another reload, everything is as it was. With --sql
app passwords go on also while letterlockd is away, by its view file. With --sql-only
letterlockd is never asked: app passwords come from PostgreSQL, or from the view file of
SQLite, and there are no tokens. Dovecot 2.3.19 cannot have PostgreSQL and tokens at once.

--for 2.4 prints the form of Dovecot 2.4, which was written from its documentation and
has not been run.`,
		Example: `  letterlockd config dovecot
  letterlockd config dovecot --write && doveadm reload
  letterlockd config dovecot --sql --write && doveadm reload
  letterlockd migrate --dovecot-role dovecot && letterlockd config dovecot --sql-only --write && doveadm reload`,
		Args: command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return p.printDovecot(c.Context(), f) },
	}
	c.Flags().StringVar(&f.folder, "config-dir", "/etc/dovecot", "Dovecot's configuration `folder`")
	c.Flags().BoolVar(&f.write, "write", false, "write the files instead of printing them")
	c.Flags().BoolVar(&f.bySQL, "sql", false, "also ask view_file of [database], for while letterlockd is away")
	c.Flags().BoolVar(&f.sql.on, "sql-only", false, "ask SQL and never letterlockd")
	c.Flags().StringVar(&f.postfix, "postfix-socket", "", "also listen for Postfix's sign-ins at this `path`, below its queue folder (config postfix --sql)")
	c.Flags().StringVar(&f.version, "for", "", "print for this `version` of Dovecot, 2.3 or 2.4; default: the one that is installed")
	f.sql.add(c, "dovecot")
	c.MarkFlagsMutuallyExclusive("sql", "sql-only")
	return c
}

// dovecotFlags are what the command line of config dovecot says.
type dovecotFlags struct {
	folder, postfix, version string
	write, bySQL             bool
	sql                      sqlFlags
}

func (p *program) printDovecot(ctx context.Context, f dovecotFlags) error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	facts, err := p.dovecotFacts(ctx, conf, f)
	if err != nil {
		return err
	}
	if f.write {
		return p.writeDovecot(f.folder, facts.Files())
	}
	if p.term.OutTTY {
		// A secret on a screen is a secret in a scroll-back buffer.
		facts.Secret = "(hidden: use --write, or send the output to a file)"
		facts.DoveadmKey = facts.Secret
	}
	for _, file := range facts.Files() {
		if _, err := fmt.Fprintf(p.term.Out, "# ==> %s\n%s\n", filepath.Join(f.folder, file.Name), file.Text); err != nil {
			return err
		}
	}
	return nil
}

// dovecotFacts are what the text is made of.
func (p *program) dovecotFacts(ctx context.Context, conf *config.Daemon, f dovecotFlags) (recipe.Dovecot, error) {
	facts := recipe.Dovecot{Dir: f.folder, Listen: conf.Dovecot.Listen}
	var err error
	if facts.Version, err = f.dovecotVersion(ctx); err != nil {
		return facts, err
	}
	if f.postfix != "" {
		if !filepath.IsAbs(f.postfix) {
			return facts, cli.Faultf(cli.Usage, "/var/spool/postfix/"+postfixAuth, "--postfix-socket wants an absolute path")
		}
		facts.Listeners = append(facts.Listeners, recipe.Listener{Path: f.postfix, User: "postfix", Group: "postfix", Why: "Postfix asks here about sign-ins (config postfix --sql)."})
	}
	if place := conf.Postfix.Fallback; place != "" {
		owner := "letterlockd"
		if _, err := user.Lookup(owner); err != nil {
			owner = "root" // nobody else can be the one who runs it
		}
		facts.Listeners = append(facts.Listeners, recipe.Listener{Path: place, User: owner, Group: owner,
			Why: "letterlockd asks here about the sign-ins that are not its own (fallback in [postfix])."})
	}
	if facts.Doveadm, facts.DoveadmKey, err = localDoveadm(conf); err != nil {
		return facts, err
	}
	if f.sql.on {
		table, err := f.sql.table(p, conf)
		if err != nil {
			return facts, err
		}
		if faults := table.Faults(); len(faults) > 0 && !p.term.OutTTY {
			return facts, cli.Faultf(cli.Config, "nothing was printed", "%s", strings.Join(faults, "\n"))
		}
		facts.SQL = &table
		return facts, nil
	}
	if conf.Dovecot.Listen == "" {
		return facts, cli.Faultf(cli.Config, "letterlockd config describe explains them", "[dovecot] in %s: set listen and secret_file", p.file)
	}
	secret, err := config.SecretFile(conf.Dovecot.SecretFile)
	if err != nil {
		return facts, cli.Wrap(cli.Config, err, "make one: openssl rand -hex 32")
	}
	facts.Secret, facts.Discovery = secret.Reveal(), discovery(conf)
	if facts.ViewFile = conf.Database.ViewFile; !f.bySQL {
		facts.ViewFile = ""
	} else if facts.ViewFile == "" {
		return facts, cli.Faultf(cli.Config, "letterlockd config describe explains it; with PostgreSQL too: driver = pgsql crashes Dovecot 2.3.19 beside tokens", "--sql needs view_file in [database] of %s", p.file)
	}
	return facts, nil
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

// dovecotVersion is the version that was named, or else the one that is installed.
func (f dovecotFlags) dovecotVersion(ctx context.Context) (string, error) {
	version := f.version
	if version == "" {
		out, err := exec.CommandContext(ctx, "dovecot", "--version").Output()
		if err != nil {
			return "", cli.Wrap(cli.Unavailable, fmt.Errorf("ask dovecot for its version: %w", err), "run this where Dovecot is installed, or name the version with --for")
		}
		version, _, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	}
	if !regexp.MustCompile(`^2\.[34](\.\d+)*$`).MatchString(version) {
		return "", cli.Faultf(cli.Unavailable, "2.3 is what was run, 2.4 is written from its documentation", "the configuration of Dovecot %s is not written here", cli.Line(version))
	}
	return version, nil
}
