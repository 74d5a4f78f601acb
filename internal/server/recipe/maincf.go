package recipe

import (
	"fmt"
	"slices"
	"strings"
)

// A MainCF is main.cf as it stands, as far as recipients and aliases are concerned.
type MainCF struct {
	// Main are the settings of MainSettings, nothing in them expanded.
	Main map[string]string
	// Own are the names among them that main.cf itself sets.
	Own []string
	// Classes is which lists of domains hold the own ones: "virtual", "relay", "local".
	Classes []string
	// Shared are those of Classes whose list has, or may have, domains of others too.
	Shared []string
	// Fill: a list of recipients that is empty, and so takes every address, becomes one that
	// knows letterlockd's people alone.
	Fill bool
}

// MainSettings are what a MainCF needs to know.
func MainSettings() []string {
	return []string{"proxy_read_maps", "virtual_alias_maps", "virtual_mailbox_maps", "relay_recipient_maps", "virtual_transport", "virtual_mailbox_domains", "relay_domains"}
}

// A change is one setting of main.cf.
type change struct{ name, value, why string }

// recipients are the changes of main.cf that make it know aliases and mailboxes by the
// tables of those names, and notes on what was left as it is.
func (m MainCF) recipients(aliases []string, mailboxes string) (changes []change, notes []string) {
	extend := func(name, why string, tables ...string) {
		value := m.Main[name]
		for _, table := range tables {
			value = also(value, table)
		}
		changes = append(changes, change{name, value, why})
	}
	extend("virtual_alias_maps", "Aliases: what is there is asked first.", aliases...)
	for _, class := range m.Classes {
		name, note := m.recipientMap(class)
		switch {
		case note != "":
			notes = append(notes, note)
		case m.Main[name] == "":
			extend(name, "Recipients: there was no list, and every address was taken. Now whoever letterlockd does\n# not know gets no mail.", mailboxes)
		default:
			extend(name, "Recipients: the mailboxes that were there stay.", mailboxes)
		}
	}
	if len(m.Classes) == 0 {
		notes = append(notes, "virtual_mailbox_domains and relay_domains name none of the domains of letterlockd; where a table names them, put the lists of recipients behind the tables yourself")
	}
	return changes, notes
}

// recipientMap is the list of recipients of a class of domains, or why it is left alone.
// A list that is empty takes every address: with ours alone in it, whoever is not known
// to letterlockd would get no mail any more, and neither would anybody in a domain that is
// not letterlockd's.
func (m MainCF) recipientMap(class string) (name, note string) {
	switch class {
	case "virtual":
		name = "virtual_mailbox_maps"
		if transport := m.Main["virtual_transport"]; transport == "" || transport == "virtual" || transport == "$virtual_transport" {
			return "", "virtual_mailbox_maps is left alone: with virtual_transport = virtual its answers are paths of your making"
		}
	case "relay":
		name = "relay_recipient_maps"
	default:
		return "", "the own domain is in mydestination, whose recipients are users of this machine: they are left alone"
	}
	switch empty := m.Main[name] == ""; {
	case empty && slices.Contains(m.Shared, class):
		return "", name + " is empty, which takes every address, and there are domains in that class that are not letterlockd's: a list of its people alone would refuse all mail for them. Name them in domains, or their recipients in " + name
	case empty && !m.Fill:
		return "", name + " is empty, which takes every address. Once letterlockd knows everybody, --recipients fills it"
	}
	return name, ""
}

// writeChanges sets them.
func writeChanges(b *strings.Builder, changes []change, notes []string) {
	for _, c := range changes {
		fmt.Fprintf(b, "# %s\npostconf -e %s\n", c.why, quote(c.name+"="+c.value))
	}
	for _, note := range notes {
		fmt.Fprintf(b, "# Not changed: %s.\n", note)
	}
}

// undoChanges brings main.cf back to what it is.
func (m MainCF) undoChanges(b *strings.Builder, changes []change) {
	for _, c := range changes {
		if slices.Contains(m.Own, c.name) {
			fmt.Fprintf(b, "postconf -e %s\n", quote(c.name+"="+m.Main[c.name]))
		} else {
			fmt.Fprintf(b, "postconf -X %s\n", c.name)
		}
	}
}

// also puts a table behind a list of main.cf once. The list itself stays as it is: a table
// in braces has blanks and commas of its own.
func also(list, ref string) string {
	switch {
	case list == "":
		return ref
	case slices.Contains(strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }), ref):
		return list
	}
	return list + ", " + ref
}
