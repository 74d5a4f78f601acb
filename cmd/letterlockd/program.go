package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A program is one run: who called it how, and what it has opened so far.
type program struct {
	args   []string
	term   *cli.Terminal
	getenv func(string) string
	now    func() time.Time
	random io.Reader

	file string // --config
	conf *config.Daemon
	db   *database.DB

	log     *slog.Logger // of serve
	serving bool
}

// run does what the arguments say and reports faults to the person.
func (p *program) run(ctx context.Context) cli.Code {
	out := &cli.Output{W: p.term.Out}
	p.term.Out = out
	root := p.root()
	root.SetArgs(p.args[1:])
	root.SetIn(p.term.In)
	root.SetOut(p.term.Out)
	root.SetErr(p.term.Err)
	err := root.ExecuteContext(ctx)
	if p.db != nil {
		err = errors.Join(err, p.db.Close())
	}
	var fault *cli.Fault
	if out.Err != nil && !errors.As(err, &fault) {
		err = cli.Wrap(cli.CannotWrite, fmt.Errorf("write to standard output: %w", out.Err), "make room, or send the output elsewhere; nothing else went wrong")
	}
	if err == nil {
		return cli.OK
	}
	return cli.Report(p.term.Err, "letterlockd", explain(err))
}

func (p *program) root() *cobra.Command {
	root := command.Root(&cobra.Command{
		Use:   "letterlockd",
		Short: "sign-in for mail, beside the Postfix and Dovecot that are there",
		Long: `Letterlockd stands beside Postfix and Dovecot. People get named app passwords and
mail-only tokens from it; the mail servers ask it whether one is good, and who may send
as whom. What is revoked is gone everywhere within seconds.

The configuration is /etc/letterlock/letterlockd.toml; without it, letterlockd serve runs
its pages for this machine alone and makes the first administrator by a link. Commands
work on the running database: there is no need to stop the daemon.`,
		Example: `  letterlockd person add ann@example.org --name "Ann Example"
  letterlockd credential make ann@example.org --label phone --protocol imap,smtp
  letterlockd config postfix
  letterlockd config dovecot
  letterlockd serve`,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	})
	root.PersistentFlags().StringVar(&p.file, "config", config.DaemonPath, "configuration `file`")
	root.AddCommand(p.serveCommand(), p.personCommand(), p.addressCommand(), p.credentialCommand(), p.otpCommand(), p.sessionCommand(), p.clientCommand(), p.keyCommand(), p.banCommand(), p.auditCommand(), p.membershipCommand(),
		p.configCommand(), p.doctorCommand(), p.migrateCommand(), p.backupCommand(), p.restoreCommand(), command.Version("letterlockd"), command.GenDocs(p.docs))
	return root
}

// config reads the configuration once. A file that was named must be there.
func (p *program) config() (*config.Daemon, error) {
	if p.conf != nil {
		return p.conf, nil
	}
	if _, err := os.Stat(p.file); errors.Is(err, os.ErrNotExist) && p.file != config.DaemonPath {
		return nil, cli.Wrap(cli.Config, fmt.Errorf("read configuration: %w", err), "name a file that is there with --config")
	}
	conf, err := config.LoadDaemon(p.file)
	if err != nil {
		return nil, err
	}
	if err := p.firstHour(conf); err != nil {
		return nil, err
	}
	p.conf = conf
	return conf, nil
}

// store opens the database once; run closes it.
func (p *program) store(ctx context.Context) (*database.DB, error) {
	if p.db != nil {
		return p.db, nil
	}
	conf, err := p.config()
	if err != nil {
		return nil, err
	}
	url, err := conf.DatabaseURL()
	if err != nil {
		return nil, cli.Wrap(cli.Config, err, "")
	}
	o := database.Options{Now: p.now, Log: p.log, ViewCheck: p.serving}
	// A command follows a file that is there, so that a revocation holds while the daemon
	// is down. It makes none: it would belong to whoever ran the command.
	if _, err := os.Stat(conf.Database.ViewFile); err == nil || p.serving {
		o.ViewFile = conf.Database.ViewFile
	}
	db, err := database.Open(ctx, url.Reveal(), o)
	if err != nil {
		return nil, err
	}
	p.db = db
	return db, nil
}

// explain turns what the rooms say into one line and a hint.
func explain(err error) error {
	var fault *cli.Fault
	var faults *config.Error
	switch {
	case errors.As(err, &fault):
		return err
	case errors.As(err, &faults):
		return &cli.Fault{Code: cli.Config, What: strings.Join(faults.Lines(), "\n"), Hint: "nothing was done; correct the file, and see letterlockd.toml(5)", Err: err}
	case errors.Is(err, identity.ErrUnavailable):
		return cli.Wrap(cli.TempFail, err, "the database does not answer: try again, or look at its log")
	}
	return err
}

func (p *program) printJSON(value any) error {
	encoder := json.NewEncoder(p.term.Out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// actor is who works at this shell, for the audit trail.
func (p *program) actor() string { return fmt.Sprintf("shell:%d", os.Getuid()) }

// change does something and records it, in one transaction: the daemon ends sessions by what
// stands in the audit trail. do asks the database with the context that it is given, and may
// be called more than once.
func (p *program) change(ctx context.Context, db *database.DB, kind string, person identity.PersonID, detail string, do func(context.Context) error) error {
	return db.Together(ctx, func(ctx context.Context) error {
		if err := do(ctx); err != nil {
			return err
		}
		return p.record(ctx, db, kind, person, detail)
	})
}

// record adds to the audit trail; person may be empty. What it tells of is done in the same
// transaction.
func (p *program) record(ctx context.Context, db *database.DB, kind string, person identity.PersonID, detail string) error {
	return db.AddEvent(ctx, identity.Event{At: p.now(), Kind: kind, Person: person, Actor: p.actor(), Detail: detail})
}

func day(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format("2006-01-02 15:04")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
