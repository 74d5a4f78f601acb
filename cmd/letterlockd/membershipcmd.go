package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func (p *program) membershipCommand() *cobra.Command {
	c := command.Root(&cobra.Command{
		Use: "membership", Short: "who still belongs, as identity providers say",
		Long: `Providers with a [membership.NAME] section are asked again and again whether the people
bound to their accounts still belong. Who does not is suspended, and let in again when they
do. When more than a tenth, and more than two, would have gone within 24 hours, those who
have not yet wait until an administrator has looked and approves.`,
		Example: `  letterlockd membership show
  letterlockd membership approve github`,
	})
	c.AddCommand(p.membershipShowCommand(), p.membershipApproveCommand())
	return c
}

type leaverView struct {
	Name    string    `json:"name"`
	Person  string    `json:"person"`
	Subject string    `json:"subject"`
	State   string    `json:"state"`
	Since   time.Time `json:"since"`
	Why     string    `json:"why"`
}

func (p *program) membershipShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show", Short: "show how providers answered, and who is out or waits",
		Long: `Show when each provider was asked and has answered last, and the people of whom it says that
they do not belong: out, or waiting for an administrator.`,
		Example: `  letterlockd membership show
  letterlockd membership show --json | jq '.leavers[] | select(.state == "waiting") | .person'`,
		Args: command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return p.showMembership(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an object")
	return c
}

func (p *program) showMembership(ctx context.Context, asJSON bool) error {
	looks, leavers, err := p.readMembership(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(struct {
			Providers []lookView   `json:"providers"`
			Leavers   []leaverView `json:"leavers"`
		}{looks, leavers})
	}
	rows := make([][]string, len(looks))
	for i, v := range looks {
		rows[i] = v.row()
	}
	if err := cli.Table(p.term.Out, []string{"PROVIDER", "ASKED", "ANSWERED", "ACCOUNTS", "GONE", "STATE"}, rows); err != nil || len(leavers) == 0 {
		return err
	}
	p.term.Sayf("")
	rows = make([][]string, len(leavers))
	for i, v := range leavers {
		rows[i] = []string{v.Person, v.Name, v.State, day(v.Since), cli.Line(v.Why)}
	}
	return cli.Table(p.term.Out, []string{"PERSON", "PROVIDER", "STATE", "SINCE", "WHY"}, rows)
}

func (p *program) readMembership(ctx context.Context) ([]lookView, []leaverView, error) {
	conf, err := p.config()
	if err != nil {
		return nil, nil, err
	}
	db, err := p.store(ctx)
	if err != nil {
		return nil, nil, err
	}
	known, err := db.MembershipLooks(ctx)
	if err != nil {
		return nil, nil, err
	}
	looks, names := []lookView{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(conf.Membership)) {
		view := lookView{Name: name, Issuer: issuerOf(conf.SignIn[name])}
		names[view.Issuer] = name
		for _, l := range known {
			if l.Issuer == view.Issuer {
				view.Asked, view.Answered, view.Accounts, view.Gone, view.Trouble = some(l.Asked), some(l.Answered), l.Accounts, l.Gone, l.Trouble
			}
		}
		looks = append(looks, view)
	}
	all, err := db.Leavers(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	leavers, people := []leaverView{}, addressBook{db: db, known: map[identity.PersonID]string{}}
	for _, l := range all {
		name := names[l.Issuer]
		if name == "" {
			name = l.Issuer
		}
		leavers = append(leavers, leaverView{Name: name, Person: people.of(ctx, l.Person), Subject: l.Subject, State: string(l.State), Since: l.Since, Why: l.Why})
	}
	return looks, leavers, nil
}

func some(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

func (p *program) membershipApproveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "approve NAME", Short: "let those go who wait at a provider",
		Long: `Approve that all people who wait at the provider of [membership.NAME] are suspended. The
provider is asked once more, within seconds: who belongs after all is not. letterlockd
membership show tells who they are; look at it first.`,
		Example: "  letterlockd membership approve github",
		Args:    command.Exactly(1),
		RunE:    func(c *cobra.Command, args []string) error { return p.approveMembership(c.Context(), args[0]) },
	}
}

func (p *program) approveMembership(ctx context.Context, name string) error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	if _, there := conf.Membership[name]; !there {
		return cli.Faultf(cli.DataError, "letterlockd membership show names them", "there is no [membership.%s] in %s", cli.Line(name), p.file)
	}
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	n := 0
	err = db.Together(ctx, func(ctx context.Context) error {
		n = 0
		waiting, err := db.Leavers(ctx, issuerOf(conf.SignIn[name]))
		if err != nil {
			return err
		}
		for _, l := range waiting {
			if l.State != identity.LeaverWaiting {
				continue
			}
			l.State = identity.LeaverApproved
			if err := db.PutLeaver(ctx, l); err != nil {
				return err
			}
			n++
			if err := p.record(ctx, db, "membership.approved", l.Person, name+": "+l.Why); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n == 0 {
		return cli.Faultf(cli.DataError, "letterlockd membership show", "nobody waits at %s", cli.Line(name))
	}
	p.term.Sayf("%d accounts were approved; the daemon asks once more and suspends who does not belong", n)
	return nil
}
