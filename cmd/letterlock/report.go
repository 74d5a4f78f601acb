package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/client/login"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
)

// A report is what may be told to strangers: an allow-list. Nothing is copied from
// the configuration or a grant and then cleaned; each line is made of words of ours,
// numbers, and names of known providers. Addresses, account names, client ids, hosts
// and paths stay out.
type report struct {
	Version       command.Build   `json:"version"`
	Surroundings  map[string]bool `json:"surroundings"`
	Configuration string          `json:"configuration"`
	FaultLines    []int           `json:"fault_lines,omitempty"`
	Files         []fileReport    `json:"files"`
	Providers     []string        `json:"providers"`
	Accounts      []accountReport `json:"accounts"`
}

type fileReport struct {
	What string `json:"what"`
	Mode string `json:"mode"`
	Ours bool   `json:"ours"`
}

type accountReport struct {
	Number      int    `json:"number"`
	Provider    string `json:"provider"`
	State       string `json:"state"`
	Right       string `json:"right"`
	Key         string `json:"key"`
	Token       string `json:"token"`
	SignedIn    string `json:"signed_in"`
	Interrupted bool   `json:"refresh_interrupted"`
	Shared      bool   `json:"mailbox_of_another_name"`
}

func (p *program) reportCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "report",
		Short: "print facts for a bug report, without secrets",
		Long: `Print what helps with a bug report and can be shown to everybody: versions, the
surroundings, and the state of each account. Addresses, account names, hosts, client
ids, paths and tokens are not in it: it is put together from a list of what may be
told, not cleaned of what may not.`,
		Example: `  letterlock report
  letterlock report --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return p.report(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an object")
	return c
}

func (p *program) report(ctx context.Context, asJSON bool) error {
	r := p.collect(ctx)
	if asJSON {
		return p.printJSON(r)
	}
	out := p.term.Out
	fmt.Fprintf(out, "letterlock %s %s, %s, %s\n", r.Version.Version, r.Version.Revision, r.Version.Go, r.Version.Platform)
	for _, name := range sortedNames(r.Surroundings) {
		fmt.Fprintf(out, "%s: %s\n", name, yesNo(r.Surroundings[name]))
	}
	fmt.Fprintf(out, "configuration: %s", r.Configuration)
	for _, line := range r.FaultLines {
		fmt.Fprintf(out, " (line %d)", line)
	}
	fmt.Fprintln(out)
	for _, f := range r.Files {
		fmt.Fprintf(out, "%s: mode %s, owner %s\n", f.What, f.Mode, map[bool]string{true: "us", false: "another"}[f.Ours])
	}
	fmt.Fprintf(out, "providers configured: %s\n", strings.Join(r.Providers, ", "))
	for _, a := range r.Accounts {
		fmt.Fprintf(out, "account %d: provider %s, %s, right %s, key %s, token %s, signed in %s, refresh interrupted %s, mailbox of another name %s\n",
			a.Number, a.Provider, a.State, a.Right, a.Key, a.Token, a.SignedIn, yesNo(a.Interrupted), yesNo(a.Shared))
	}
	return nil
}

func (p *program) collect(ctx context.Context) report {
	around := login.Look(p.desktop())
	r := report{
		Version: command.OwnBuild(),
		Surroundings: map[string]bool{"ssh": around.SSH, "display": around.Display, "browser set": around.BrowserSet, "container": around.Container,
			"terminal": p.term.Interactive, "home set": p.getenv("HOME") != "", "session bus": p.getenv("DBUS_SESSION_BUS_ADDRESS") != "",
			"runtime folder": p.getenv("XDG_RUNTIME_DIR") != "", "proxy set": p.getenv("HTTPS_PROXY") != "" || p.getenv("https_proxy") != "", "system": p.system},
		Configuration: "good", Providers: []string{}, Accounts: []accountReport{},
	}
	if paths, err := p.where(); err == nil {
		r.Files = []fileReport{aboutFile("configuration file", paths.Config), aboutFile("state folder", paths.State),
			aboutFile("grants", paths.State+"/grants"), aboutFile("keys", paths.State+"/keys")}
	}
	conf, err := p.config()
	var faults *config.Error
	switch {
	case errors.As(err, &faults):
		r.Configuration = fmt.Sprintf("%d faults", len(faults.Faults))
		for _, fault := range faults.Faults {
			r.FaultLines = append(r.FaultLines, fault.Line)
		}
		return r
	case err != nil:
		r.Configuration = "cannot be read"
		return r
	case conf.Path == "":
		r.Configuration = "none"
	}
	for _, name := range sortedNames(conf.Providers) {
		r.Providers = append(r.Providers, publicProvider(name))
	}
	r.Accounts = p.collectAccounts(ctx)
	return r
}

func (p *program) collectAccounts(ctx context.Context) []accountReport {
	out := []accountReport{}
	states, err := p.accountStates(ctx)
	if err != nil {
		return out
	}
	for i, s := range states {
		out = append(out, accountReport{
			Number: i + 1, Provider: publicProvider(s.Provider), State: s.State, Right: s.Right, Key: s.Key,
			Token: until(s.TokenUntil, p.now()), SignedIn: age(s.SignedIn, p.now()), Interrupted: s.Interrupted,
			Shared: s.Mailbox != "" && s.Mailbox != s.Login,
		})
	}
	return out
}

// publicProvider tells the known ones by name only: the host of an issuer of one's own
// says where somebody works.
func publicProvider(name string) string {
	if slices.Contains(knownNames(), name) {
		return name
	}
	return "an issuer of their own"
}

func aboutFile(what, path string) fileReport {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fileReport{what, "missing", true}
	case err != nil:
		return fileReport{what, "unreadable", false}
	}
	return fileReport{what, info.Mode().String(), isOurs(info)}
}
