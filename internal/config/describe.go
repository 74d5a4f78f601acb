package config

import (
	"fmt"
	"strings"
)

// A Section describes one kind of section for the manual.
type Section struct {
	Name string // "[provider.NAME]"; empty for the top of the file
	Doc  string
	Keys []KeyDoc
}

// A KeyDoc describes one key.
type KeyDoc struct{ Name, Doc, Sample string }

// Describe returns everything that may stand in the file.
func Describe() []Section {
	return []Section{
		{"", "Before the first section.", docs(topFields())},
		{"[provider.NAME]", "A provider: the client id of your own, kept once for all its accounts, and whatever Letterlock does not know about it. letterlock register writes it.", docs(providerFields())},
		{"[account.NAME]", "An account. NAME is what commands call it, usually the address. letterlock login writes it.", docs(accountFields())},
		{"[key.NAME]", "A key source, where it needs settings.", docs(keyFields())},
		{"[queue]", "Mail that leaves this machine: sendmail, mailx and the queue behind them.", docs(queueFields())},
		{"[notify]", "Whom to tell when a person is needed.", docs(notifyFields())},
	}
}

func docs[T any](fields []field[T]) []KeyDoc {
	out := make([]KeyDoc, len(fields))
	for i, f := range fields {
		out[i] = KeyDoc{f.name, f.doc, f.sample}
	}
	return out
}

// Sample is an annotated configuration file in which everything is commented out.
func Sample() string { return sample(Describe()) }

// DaemonSample is the same for letterlockd.
func DaemonSample() string { return sample(DescribeDaemon()) }

func sample(sections []Section) string {
	var b strings.Builder
	for _, section := range sections {
		fmt.Fprintf(&b, "# %s\n", section.Doc)
		if section.Name != "" {
			fmt.Fprintf(&b, "#%s\n", strings.Replace(section.Name, "NAME", "example", 1))
		}
		for _, key := range section.Keys {
			fmt.Fprintf(&b, "# %s\n", key.Doc)
			if key.Sample != "" {
				fmt.Fprintf(&b, "#%s = %s\n", key.Name, key.Sample)
			} else {
				fmt.Fprintf(&b, "#%s = \"...\"\n", key.Name)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
