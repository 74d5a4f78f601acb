package command

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Date stands in the footer of all pages.
const Date = "2026-11-22"

// A Book is the manual of one program.
type Book struct {
	Section    string // of its commands: "1", or "8" for administration
	ExitStatus string
	Config     ConfigPage
}

// A ConfigPage describes a configuration file.
type ConfigPage struct {
	Name        string // "letterlock.toml"
	Of          string // "letterlock(1)"
	Paths       []string
	Description string
	Sections    []Section
	Example     string
	SeeAlso     string
}

// A Section is one kind of section of the file; an empty Name is the top.
type Section struct {
	Name, Doc string
	Keys      []Key
}

// A Key is one setting.
type Key struct{ Name, Doc string }

// Files makes everything, by path below docs/.
func (b *Book) Files(root *cobra.Command) (map[string][]byte, error) {
	root.InitDefaultHelpFlag()
	root.InitDefaultCompletionCmd()
	name := root.Name()
	files := map[string][]byte{
		"man/" + name + "." + b.Section: []byte(b.commandPage(root)),
		"man/" + b.Config.Name + ".5":   []byte(b.configPage()),
	}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "completion" && c.Name() != "help" {
			c.InitDefaultHelpFlag()
			files["man/"+pageName(c)+"."+b.Section] = []byte(b.commandPage(c))
		}
	}
	for path, generate := range map[string]func(*bytes.Buffer) error{
		"completion/" + name + ".bash": func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) },
		"completion/_" + name:          func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
		"completion/" + name + ".fish": func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) },
	} {
		var out bytes.Buffer
		if err := generate(&out); err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
		files[path] = out.Bytes()
	}
	return files, nil
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func (b *Book) page(name string) string { return name + "(" + b.Section + ")" }

// commandPage is the manual of one command.
func (b *Book) commandPage(c *cobra.Command) string {
	r := &roff{}
	name := pageName(c)
	r.macro("TH", strings.ToUpper(name), b.Section, Date, "Letterlock", "Letterlock Manual")
	r.macro("SH", "NAME")
	r.text(name + " - " + c.Short)
	r.macro("SH", "SYNOPSIS")
	r.synopsis(c)
	r.macro("SH", "DESCRIPTION")
	r.paragraphs(c.Long)
	r.options("OPTIONS", c.NonInheritedFlags())
	r.options("OPTIONS OF EVERY COMMAND", c.InheritedFlags())
	r.children(c)
	if c.Example != "" {
		r.macro("SH", "EXAMPLES")
		r.verbatim(c.Example)
	}
	r.macro("SH", "EXIT STATUS")
	r.text(b.ExitStatus)
	r.macro("SH", "SEE ALSO")
	r.text(b.seeAlso(c))
	return r.b.String()
}

func (r *roff) synopsis(c *cobra.Command) {
	line := c.CommandPath()
	if c.HasAvailableSubCommands() {
		r.text(line + " COMMAND [OPTIONS] [ARGUMENTS]")
		return
	}
	_, arguments, _ := strings.Cut(c.Use, " ")
	if c.HasAvailableLocalFlags() {
		line += " [OPTIONS]"
	}
	r.text(strings.TrimSpace(line + " " + arguments))
}

func (r *roff) options(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	r.macro("SH", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		r.macro("TP")
		kind, usage := pflag.UnquoteUsage(f)
		head := "--" + f.Name
		if f.Shorthand != "" {
			head = "-" + f.Shorthand + ", " + head
		}
		if kind != "" {
			head += " " + strings.ToUpper(kind)
		}
		r.macro("B", head)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		r.text(usage)
	})
}

func (r *roff) children(c *cobra.Command) {
	if !c.HasAvailableSubCommands() {
		return
	}
	r.macro("SH", "COMMANDS")
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() && child.Name() != "help" {
			r.macro("TP")
			r.macro("B", child.Name())
			r.text(child.Short)
		}
	}
	for _, child := range c.Commands() {
		if child.IsAdditionalHelpTopicCommand() {
			r.macro("SH", strings.ToUpper(child.Name()))
			r.paragraphs(child.Long)
		}
	}
}

func (b *Book) seeAlso(c *cobra.Command) string {
	pages := []string{b.Config.Name + "(5)"}
	if c.HasParent() {
		return b.page(c.Root().Name()) + ", " + strings.Join(pages, ", ")
	}
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() && child.Name() != "help" && child.Name() != "completion" {
			pages = append(pages, b.page(pageName(child)))
		}
	}
	return strings.Join(pages, ",\n")
}

// configPage is made from the same description that checks the file.
func (b *Book) configPage() string {
	c := b.Config
	r := &roff{}
	r.macro("TH", strings.ToUpper(c.Name), "5", Date, "Letterlock", "Letterlock Manual")
	r.macro("SH", "NAME")
	r.text(c.Name + " - configuration of " + c.Of)
	r.macro("SH", "SYNOPSIS")
	for i, path := range c.Paths {
		if i > 0 {
			r.macro("br")
		}
		r.text(path)
	}
	r.macro("SH", "DESCRIPTION")
	r.paragraphs(c.Description)
	for _, section := range c.Sections {
		title := section.Name
		if title == "" {
			title = "TOP OF THE FILE"
		}
		r.macro("SH", title)
		r.text(section.Doc)
		for _, key := range section.Keys {
			r.macro("TP")
			r.macro("B", key.Name)
			r.text(key.Doc)
		}
	}
	r.macro("SH", "EXAMPLE")
	r.verbatim(c.Example)
	r.macro("SH", "SEE ALSO")
	r.text(c.SeeAlso)
	return r.b.String()
}
