package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/letterlock-mail/letterlock/internal/config"
)

// manDate stands in the manual's footer. It is a constant so that the pages are the
// same whenever they are made.
const manDate = "2026-11-22"

// A roff is a manual page being written, in the man(7) macros. cobra's own generator
// goes through Markdown and two modules of which nothing else here has need.
type roff struct{ b strings.Builder }

func (r *roff) macro(name string, args ...string) {
	r.b.WriteString("." + name)
	for _, arg := range args {
		if name != "TH" { // mandoc reads its date only without escapes
			arg = escape(arg)
		}
		r.b.WriteString(` "` + strings.ReplaceAll(arg, `"`, `\(dq`) + `"`)
	}
	r.b.WriteByte('\n')
}

// escape keeps text from being read as requests, and hyphens from becoming dashes.
func escape(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	return strings.ReplaceAll(s, "-", `\-`)
}

// text sets prose: filled anew, in source lines of at most 78 bytes.
func (r *roff) text(prose string) {
	line := ""
	for _, word := range strings.Fields(prose) {
		word = escape(word)
		if line != "" && len(line)+1+len(word) > 78 {
			r.line(line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	r.line(line)
}

// line writes one line that is escaped already.
func (r *roff) line(line string) {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		line = `\&` + line
	}
	r.b.WriteString(line + "\n")
}

// paragraphs sets prose; an indented or columned block stays as it is written.
func (r *roff) paragraphs(text string) {
	for i, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			r.macro("PP")
		}
		if strings.Contains(block, "   ") {
			r.verbatim(block)
			continue
		}
		r.text(block)
	}
}

func (r *roff) verbatim(text string) {
	r.macro("nf")
	for line := range strings.Lines(text) {
		r.line(escape(strings.TrimRight(line, "\n")))
	}
	r.macro("fi")
}

// commandPage is the manual of one command.
func commandPage(c *cobra.Command) string {
	r := &roff{}
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	r.macro("TH", strings.ToUpper(name), "1", manDate, "Letterlock", "Letterlock Manual")
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
	r.text("0, or a code of sysexits(3): 64 usage, 65 data, 67 no such account, 69 unavailable,\n73 cannot create, 75 try again later, 77 sign in again, 78 configuration.")
	r.macro("SH", "SEE ALSO")
	r.text(seeAlso(c))
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

func seeAlso(c *cobra.Command) string {
	pages := []string{"letterlock.toml(5)"}
	if c.HasParent() {
		return "letterlock(1), " + strings.Join(pages, ", ")
	}
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() && child.Name() != "help" && child.Name() != "completion" {
			pages = append(pages, "letterlock-"+child.Name()+"(1)")
		}
	}
	return strings.Join(pages, ",\n")
}

// configPage is letterlock.toml(5), from the same description that checks the file.
func configPage() string {
	r := &roff{}
	r.macro("TH", "LETTERLOCK.TOML", "5", manDate, "Letterlock", "Letterlock Manual")
	r.macro("SH", "NAME")
	r.text("letterlock.toml - configuration of letterlock(1)")
	r.macro("SH", "SYNOPSIS")
	r.text("$XDG_CONFIG_HOME/letterlock/config.toml")
	r.macro("br")
	r.text("/etc/letterlock/letterlock.toml (with --system)")
	r.macro("SH", "DESCRIPTION")
	r.paragraphs(`The file is TOML. register and login write the sections they need and leave every
other byte of it alone, comments included. A file with faults is refused whole, with
every fault and its line; so is one that others may write, and one with a
client_secret that others may read. Paths are absolute. None of this is a token:
grants are kept elsewhere, encrypted.`)
	for _, section := range config.Describe() {
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
	r.verbatim(`default_key = "gpg"

[provider.google]
client_id = "1234-ab.apps.googleusercontent.com"
client_secret_file = "/home/you/.config/letterlock/google.secret"

[account."you@gmail.com"]
provider = "google"
right = "full"

[account.cron]
provider = "google"
login = "you@gmail.com"
right = "send-only"
key = "file"`)
	r.macro("SH", "SEE ALSO")
	r.text("letterlock(1), letterlock-login(1), letterlock-register(1)")
	return r.b.String()
}
