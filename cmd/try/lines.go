package main

import (
	"fmt"
	"io"
)

// lines prints the story. A line that waits for a person shows "(waiting)" until it
// is proven: on a terminal it is written over, elsewhere a second one follows.
type lines struct {
	out      io.Writer
	terminal bool
	title    string
	what     string
}

// begin starts a line. person says that somebody has to act before it goes on.
func (l *lines) begin(title, what string, person bool) {
	l.title, l.what = title, what
	switch {
	case l.terminal:
		fmt.Fprintf(l.out, "%s(waiting)", l.text())
	case person:
		fmt.Fprintf(l.out, "%s(waiting)\n", l.text())
	}
}

// end prints the line with what was proven.
func (l *lines) end(proven string) error {
	if l.terminal {
		fmt.Fprint(l.out, "\r\x1b[K")
	}
	_, err := fmt.Fprintf(l.out, "%s%s\n", l.text(), proven)
	return err
}

func (l *lines) text() string {
	return fmt.Sprintf("%-14s %s", l.title, l.what)
}

func (l *lines) say(text string) { fmt.Fprintln(l.out, text) }
