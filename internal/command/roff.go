package command

import "strings"

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
