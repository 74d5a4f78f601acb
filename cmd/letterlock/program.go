package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
)

// A program is one run: who called it how, and what it has opened so far.
type program struct {
	args    []string
	term    *cli.Terminal
	getenv  func(string) string
	environ []string
	now     func() time.Time

	// Flags of every command.
	system  bool
	verbose bool

	paths  *config.Paths
	conf   *config.Config
	around *tokenstore.Surroundings
	over   *handOver // nil unless the message goes to the system
	typed  passphrases
	locked *lockedAccounts // of the agent; nil in all other processes
}

// run does what the arguments say and reports faults to the person.
func (p *program) run(ctx context.Context) cli.Code {
	name := p.calledAs()
	out := &cli.Output{W: p.term.Out}
	p.term.Out = out
	err := p.runAs(ctx, name)
	if out.Err != nil && !hasFault(err) {
		// Whatever was printed with no look at the error, cobra's help too.
		err = cli.Wrap(cli.CannotWrite, fmt.Errorf("write to standard output: %w", out.Err), "make room, or send the output elsewhere; nothing else went wrong")
	}
	if err == nil {
		return cli.OK
	}
	return cli.Report(p.term.Err, name, explainFault(err))
}

// calledAs is the name that the binary was called by. Names other than the known ones
// mean letterlock itself, whatever it was renamed to.
func (p *program) calledAs() string {
	name := "letterlock"
	if len(p.args) > 0 {
		name = strings.TrimSuffix(filepath.Base(p.args[0]), ".exe")
	}
	switch name {
	case muttName, "mutt_oauth2":
		return muttName
	case "sendmail", "mailx", "mail", "mailq", "newaliases":
		return name
	}
	return "letterlock"
}

// runAs is the program of that name. sendmail and mail go straight to their own
// parsers: cron jobs wait for them.
func (p *program) runAs(ctx context.Context, name string) error {
	args := []string{}
	if len(p.args) > 0 {
		args = p.args[1:]
	}
	switch name {
	case muttName:
		return p.runMuttOAuth2(ctx, args)
	case "sendmail":
		return p.sendmail(ctx, args, func() error { return p.helpOf("sendmail") })
	case "mail", "mailx":
		return p.mailx(ctx, args, func() error { return p.helpOf("mailx") })
	case "mailq", "newaliases":
		return p.runCommand(ctx, append([]string{name}, args...))
	}
	if len(args) == 2 && args[0] == "token" && !strings.HasPrefix(args[1], "-") {
		// What mail programs call for every connection: there is no flag to parse, and
		// the command tree would be a twentieth of the whole run.
		return p.token(ctx, args[1], tokenOptions{minValidity: tokenValidity})
	}
	return p.runCommand(ctx, args)
}

// helpOf shows the help of a command that has its own parser.
func (p *program) helpOf(name string) error {
	root := p.root([]string{name})
	root.SetOut(p.term.Out)
	command, _, err := root.Find([]string{name})
	if err != nil {
		return err
	}
	return command.Help()
}

func (p *program) runCommand(ctx context.Context, args []string) error {
	root := p.root(args)
	root.SetArgs(args)
	root.SetIn(p.term.In)
	root.SetOut(p.term.Out)
	root.SetErr(p.term.Err)
	return root.ExecuteContext(ctx)
}

// root builds the command tree. When the first argument names a command, only that
// one is built: `letterlock token` is started by every cron job and mail check.
func (p *program) root(args []string) *cobra.Command {
	root := command.Root(&cobra.Command{
		Use:   "letterlock",
		Short: "sign in to mail once, then hand every program a fresh token",
		Long: `Letterlock signs you in to your mail provider once, in a browser, and keeps what
it was given encrypted. From then on every mail program gets a short-lived token
from it, and none of them holds your password.`,
		Example: `  letterlock register google            # once: a client id of your own
  letterlock login you@gmail.com        # once: sign in
  letterlock test you@gmail.com         # does it work, and if not, why
  letterlock setup mutt you@gmail.com   # what to put into .muttrc`,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	})
	flags := root.PersistentFlags()
	flags.BoolVar(&p.system, "system", false, "work on /etc/letterlock and /var/lib/letterlock, as user letterlock")
	flags.BoolVarP(&p.verbose, "verbose", "v", false, "tell on standard error what is done; secrets stay hidden")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return p.becomeSystem() }
	builders := p.commands()
	if len(args) > 0 {
		for _, b := range builders {
			if b.name == args[0] {
				root.AddCommand(b.build())
				return root
			}
		}
	}
	for _, b := range builders {
		root.AddCommand(b.build())
	}
	root.AddCommand(topics()...)
	return root
}

// A builder makes one command.
type builder struct {
	name  string
	build func() *cobra.Command
}

func (p *program) commands() []builder {
	return []builder{
		{"register", p.registerCommand},
		{"login", p.loginCommand},
		{"discover", p.discoverCommand},
		{"token", p.tokenCommand},
		{"tunnel", p.tunnelCommand},
		{"accounts", p.accountsCommand},
		{"logout", p.logoutCommand},
		{"test", p.testCommand},
		{"sendmail", p.sendmailCommand},
		{"mailx", p.mailxCommand},
		{"mailq", p.mailqCommand},
		{"newaliases", p.newAliasesCommand},
		{"queue", p.queueCommand},
		{"agent", p.agentCommand},
		{"dkim", p.dkimCommand},
		{"dns", p.dnsCommand},
		{"keygen", p.keygenCommand},
		{"import", p.importCommand},
		{"explain", p.explainCommand},
		{"setup", p.setupCommand},
		{"report", p.reportCommand},
		{"gen-docs", func() *cobra.Command { return command.GenDocs(p.docs) }},
		{"version", func() *cobra.Command { return command.Version("letterlock") }},
	}
}

// exactly wants n arguments and says which when they are not there.
func exactly(n int) cobra.PositionalArgs { return command.Exactly(n) }

// config reads the configuration once.
func (p *program) config() (*config.Config, error) {
	if p.conf != nil {
		return p.conf, nil
	}
	paths, err := p.where()
	if err != nil {
		return nil, err
	}
	conf, err := config.Load(paths.Config)
	var faults *config.Error
	switch {
	case errors.As(err, &faults):
		return nil, err
	case err != nil:
		// One that is there and cannot be read is a fault of the configuration, for
		// sendmail's callers too, and not a file that we could not make.
		return nil, cli.Wrap(cli.Config, err, "look at that file, its folders and their rights; nothing was done")
	}
	p.conf = conf
	return conf, nil
}

func (p *program) where() (config.Paths, error) {
	if p.paths == nil {
		paths := config.SystemPaths()
		if !p.system {
			var err error
			if paths, err = config.UserPaths(p.getenv); err != nil {
				return config.Paths{}, cli.Wrap(cli.Config, err, "set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME")
			}
		}
		p.paths = &paths
	}
	return *p.paths, nil
}

// changeConfig sets keys of one section and forgets the configuration read before.
func (p *program) changeConfig(ctx context.Context, kind, name string, settings []config.Setting) error {
	paths, err := p.where()
	if err != nil {
		return err
	}
	p.conf = nil
	err = config.Set(ctx, paths.Config, kind, name, settings)
	if errors.Is(err, config.ErrByHand) {
		return cli.Wrap(cli.Config, err, fmt.Sprintf("write it as [%s.NAME] with one key a line, then try again", kind))
	}
	return err
}

// log is the trace of --verbose; without it nothing is logged.
func (p *program) log() *slog.Logger {
	if !p.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return p.logFrom(slog.LevelDebug)
}

// serviceLog is for services that operators want to hear from unasked.
func (p *program) serviceLog() *slog.Logger {
	if p.verbose {
		return p.log()
	}
	return p.logFrom(slog.LevelInfo)
}

func (p *program) logFrom(level slog.Level) *slog.Logger {
	handler := slog.NewTextHandler(cli.LineWriter(p.term.Err, ""), &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	return slog.New(handler)
}
