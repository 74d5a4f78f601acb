package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/doctor"
	"github.com/letterlock-mail/letterlock/internal/server/recipe"
)

// doctorFlags are what the command line of doctor says.
type doctorFlags struct {
	postfix, dovecot string
	dns              string
	sql, json, all   bool
}

func (p *program) doctorCommand() *cobra.Command {
	var f doctorFlags
	c := &cobra.Command{
		Use: "doctor", Short: "look for known traps in Postfix, Dovecot, DNS and web mail",
		Long: `Read the live configuration of Postfix and Dovecot, ask every socket between them and
letterlockd as they would, and tell each known trap that was found: what it is, why it
matters, and the command that mends it. Nothing is changed. Where nothing is wrong,
nothing is printed. Run it as root: sockets are tried with the rights of the user postfix.

With --sql Postfix and Dovecot are to ask SQL, which goes on while letterlockd is away: each
table of Postfix is looked up with its account, and has to know somebody who is a person
here; Dovecot is had to ask once, for somebody whom there cannot be. Where one of the two is
not on this machine, that is said, and the other is looked at. Tables of letterlockd are
looked at without the flag too, where there are any.

What is looked at follows from letterlockd.toml: Postfix and Dovecot from [postfix] and
[dovecot]; DNS from [portal], where what is published is compared with what letterlockd
config dns prints, and settings are fetched as mail programs do; web mail from each
[gateway.NAME], which is visited as by a browser that nobody has signed in at. A record that
is missing is a warning, and so is a server of ours that is only the backup of others; one
that leads elsewhere is wrong. What could not be asked is unknown, and counts as neither.
The gateway takes forged headers out of the requests of people who are signed in; that, and
what a firewall keeps out, cannot be seen from outside.

The exit status is 78 when the configuration is wrong, 69 when only something that should
answer does not, and else 0; warnings do not count.`,
		Example: `  letterlockd doctor
  letterlockd doctor --all
  letterlockd doctor --sql
  letterlockd doctor --dns-server 192.0.2.53
  letterlockd doctor --json | jq '.[] | select(.level == "wrong")'`,
		Args: command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return p.doctor(c.Context(), f) },
	}
	c.Flags().StringVar(&f.postfix, "postfix-dir", "", "Postfix's configuration `folder`; default: the one that postconf knows")
	c.Flags().StringVar(&f.dovecot, "dovecot-dir", "", "`folder` of dovecot.conf; default: the one that doveconf knows")
	c.Flags().StringVar(&f.dns, "dns-server", "", "DNS server to ask, as `ADDRESS` or ADDRESS:PORT; default: the system's")
	c.Flags().BoolVar(&f.sql, "sql", false, "Postfix and Dovecot ask SQL and not letterlockd (config postfix --sql, config dovecot --sql-only)")
	c.Flags().BoolVar(&f.json, "json", false, "print every trap, found or not, as JSON")
	c.Flags().BoolVar(&f.all, "all", false, "print the traps that were not found too")
	return c
}

func (p *program) doctor(ctx context.Context, f doctorFlags) error {
	o, err := p.doctorOptions(ctx, f)
	if err != nil {
		return err
	}
	found, err := doctor.Look(ctx, o)
	var missing *exec.Error
	switch {
	case errors.As(err, &missing):
		return cli.Wrap(cli.Unavailable, err, "run this where Postfix and Dovecot are installed, or take the section out of "+p.file)
	case errors.Is(err, fs.ErrPermission):
		return cli.Wrap(cli.NoPerm, err, "run this as root")
	case err != nil:
		return cli.Wrap(cli.Unavailable, err, "does the program say more when it is run by hand?")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	members, err := p.memberFindings(ctx)
	if err != nil {
		return err
	}
	found = append(found, members...)
	if f.json {
		if err := p.printJSON(found); err != nil {
			return err
		}
	} else {
		p.printFindings(found, f.all)
	}
	return verdict(found)
}

// doctorOptions turns the configuration into what is looked at.
func (p *program) doctorOptions(ctx context.Context, f doctorFlags) (doctor.Options, error) {
	var o doctor.Options
	conf, err := p.config()
	if err != nil {
		return o, err
	}
	if conf.Postfix != (config.Postfix{}) || f.sql {
		o.Postfix = &doctor.Postfix{Dir: f.postfix, SASL: conf.Postfix.SASL, Senders: conf.Postfix.Senders, Milter: conf.Postfix.Milter}
		if f.sql {
			o.Postfix.SQL, o.Postfix.SASL, o.Postfix.Senders, o.Postfix.Milter = true, "", "", ""
			o.Postfix.Perhaps = f.postfix == ""
		}
		if len(conf.Domains) > 0 {
			o.Postfix.Domain = conf.Domains[0]
		}
		if owner, err := user.Lookup("postfix"); err == nil && os.Geteuid() == 0 {
			uid, err1 := strconv.Atoi(owner.Uid)
			gid, err2 := strconv.Atoi(owner.Gid)
			o.Postfix.UID, o.Postfix.GID, o.Postfix.As = uid, gid, err1 == nil && err2 == nil
		}
	}
	if conf.Dovecot.Listen != "" || f.sql {
		o.Dovecot = &doctor.Dovecot{Dir: f.dovecot, Listen: conf.Dovecot.Listen, SQL: f.sql, Query: recipe.PasswordQuery(), Perhaps: f.sql && f.dovecot == ""}
		for _, network := range conf.Throttle.Allow {
			o.Dovecot.Webmail = append(o.Dovecot.Webmail, network.String())
		}
		for name, node := range conf.Doveadm {
			key, err := config.SecretFile(node.KeyFile)
			if err != nil {
				return o, cli.Wrap(cli.Config, err, "put the node's doveadm_api_key into key_file of [doveadm."+name+"]")
			}
			o.Dovecot.Nodes = append(o.Dovecot.Nodes, doctor.Node{Name: name, URL: node.URL, Key: key})
		}
	}
	o.Sample = p.sample
	if err := outside(ctx, &o, conf, f.dns); err != nil {
		return o, err
	}
	if o.Postfix == nil && o.Dovecot == nil && o.DNS == nil && o.WebMail == nil {
		return o, cli.Faultf(cli.Config, "letterlockd config describe explains them", "none of [postfix], [dovecot], [portal] and [gateway.NAME] is set in %s: there is nothing to look at", p.file)
	}
	return o, nil
}

func (p *program) printFindings(found []doctor.Finding, all bool) {
	for _, f := range found {
		if f.Level == doctor.OK && !all {
			continue
		}
		level := string(f.Level)
		switch f.Level {
		case doctor.Wrong:
			level = p.term.Bad(level)
		case doctor.OK:
			level = p.term.Good(level)
		}
		head := fmt.Sprintf("%s: %s", level, f.ID)
		if f.Where != "" {
			head += " at " + cli.Line(f.Where)
		}
		if f.What != "" {
			head += ": " + cli.Line(f.What)
		}
		fmt.Fprintln(p.term.Out, head)
		if f.Level == doctor.OK {
			continue
		}
		fmt.Fprintf(p.term.Out, "  why:  %s\n", f.Why)
		if f.Mend != "" {
			fmt.Fprintf(p.term.Out, "  mend: %s\n", cli.Line(f.Mend))
		}
	}
}

// verdict is the exit status.
func verdict(found []doctor.Finding) error {
	wrong, read := 0, false
	for _, f := range found {
		if f.Level == doctor.Wrong {
			wrong++
			read = read || !f.Live
		}
	}
	code := cli.Unavailable
	switch {
	case wrong == 0:
		return nil
	case read:
		code = cli.Config
	}
	things := "things are"
	if wrong == 1 {
		things = "thing is"
	}
	return cli.Faultf(code, "each one says what mends it; then run letterlockd doctor again", "%d %s wrong", wrong, things)
}
