package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
)

func (p *program) mailqCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "mailq", Short: "list mail that waits", Long: `List mail that waits, as letterlock queue list does, with the lines that monitoring looks
for. Mail that waits until the system takes it is marked; root and the user of the
system's agent see the system's queue too.`,
		Example: "  letterlock mailq", Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if !asJSON {
				return p.mailq(c.Context())
			}
			entries, err := p.everyEntry(c.Context())
			if err != nil {
				return err
			}
			return p.printJSON(entries)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

// everyEntry is what this user may see: his own mail, and for root and the service's
// user the system's.
func (p *program) everyEntry(ctx context.Context) ([]queueEntry, error) {
	login, _ := sendmail.Caller("")
	if p.system || !systemPresent() || os.Geteuid() != 0 && login != systemUser {
		return p.queueEntries(ctx)
	}
	own := []queueEntry{}
	if !p.homeless() {
		var err error
		if own, err = p.queueEntries(ctx); err != nil {
			return nil, err
		}
	}
	// The rest as the service's user: nothing of root's own is needed any more.
	if err := p.enterSystem(true); err != nil {
		return nil, err
	}
	system, err := p.queueEntries(ctx)
	return append(own, system...), err
}

// mailq prints the sentences that sendmail's and Postfix's mailq end with.
func (p *program) mailq(ctx context.Context) error {
	entries, err := p.everyEntry(ctx)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		_, err := fmt.Fprintln(p.term.Out, "Mail queue is empty")
		return err
	}
	if err := p.tableOf(entries); err != nil {
		return err
	}
	size := int64(0)
	for _, e := range entries {
		size += e.Size
	}
	plural := "s"
	if len(entries) == 1 {
		plural = ""
	}
	_, err = fmt.Fprintf(p.term.Out, "-- %d Kbytes in %d Request%s.\n", (size+1023)/1024, len(entries), plural)
	return err
}
