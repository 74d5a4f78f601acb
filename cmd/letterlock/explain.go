package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// An explanation is provider.Entry as scripts see it.
type explanation struct {
	Code     string `json:"code"`
	Provider string `json:"provider,omitempty"`
	Kind     string `json:"kind"`
	Meaning  string `json:"meaning"`
	Cause    string `json:"cause"`
	Remedy   string `json:"remedy"`
}

func (p *program) explainCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "explain CODE...",
		Short: "explain an error code or message, offline",
		Long: `Look up error codes of providers and mail servers: AADSTS numbers, SMTP's extended
codes, OAuth error names. A whole message can be given, or piped in. Nothing is sent
anywhere.`,
		Example: `  letterlock explain AADSTS700016
  letterlock explain 5.7.139
  letterlock explain invalid_grant
  journalctl --user -u mbsync | letterlock explain`,
		RunE: func(_ *cobra.Command, args []string) error { return p.explain(args, asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects")
	return c
}

func (p *program) explain(args []string, asJSON bool) error {
	query := strings.Join(args, " ")
	if query == "" {
		if p.term.Interactive {
			return cli.Faultf(cli.Usage, "for example letterlock explain AADSTS700016", "letterlock explain needs CODE")
		}
		const limit = 64 << 10
		text, err := io.ReadAll(io.LimitReader(p.term.In, limit))
		if err != nil {
			return cli.Wrap(cli.DataError, fmt.Errorf("read the message: %w", err), "")
		}
		query = string(text)
	}
	found := []explanation{}
	for _, e := range provider.Explain(query) {
		found = append(found, explanation{e.Code, e.Provider, string(e.Kind), e.Meaning, e.Cause, e.Remedy})
	}
	if asJSON {
		return p.printJSON(found)
	}
	if len(found) == 0 {
		return cli.Faultf(cli.DataError, "give the whole message; if it is new to the book too, letterlock report helps to tell us", "the error book has nothing on %q", cli.Line(firstWords(query)))
	}
	for i, e := range found {
		if i > 0 {
			fmt.Fprintln(p.term.Out)
		}
		head := e.Code
		if e.Provider != "" {
			head += " (" + e.Provider + ")"
		}
		fmt.Fprintf(p.term.Out, "%s: %s\n  cause: %s\n  to do: %s\n", head, e.Meaning, e.Cause, e.Remedy)
	}
	return nil
}

func firstWords(text string) string {
	const limit = 80
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
