// Package cli is how Letterlock talks to people: exit codes, errors with a hint,
// prompts, tables, progress. Nothing else writes to the terminal.
//
// The rules of the voice: lower case, the program's name first, no full stop; one
// line says what happened, one line what to do now. Results go to standard output
// and nothing else does; questions and progress go to the terminal.
package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Code is an exit status. The values are those of sysexits(3), which mail programs
// know: mutt prints them in words, Postfix and cron act on them.
type Code int

// The exit codes that Letterlock uses.
const (
	OK          Code = 0
	Usage       Code = 64 // the command line is wrong
	DataError   Code = 65 // the input is wrong
	NoUser      Code = 67 // an address is wrong
	Unavailable Code = 69 // a service is there and says no
	Software    Code = 70 // a fault of ours
	CannotWrite Code = 73 // an output file cannot be created
	TempFail    Code = 75 // try again later
	NoPerm      Code = 77 // sign-in needed, or permission refused
	Config      Code = 78 // the configuration is wrong
)

// A Fault is an error that a person can act on.
type Fault struct {
	Code Code
	What string // what happened, one line, no full stop
	Hint string // what to do now, one line; may be empty
	// Details are further lines between the two, when one does not do: all faults of
	// a configuration file.
	Details []string
	Err     error // the cause for errors.Is and errors.As; not printed
}

// Error returns What.
func (f *Fault) Error() string { return f.What }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Faultf makes a Fault without a cause.
func Faultf(code Code, hint, format string, args ...any) *Fault {
	return &Fault{Code: code, Hint: hint, What: fmt.Sprintf(format, args...)}
}

// Wrap makes a Fault of err, keeping its text as What.
func Wrap(code Code, err error, hint string) *Fault {
	return &Fault{Code: code, What: err.Error(), Hint: hint, Err: err}
}

// Report prints err as people should see it and returns the exit code to use. The
// program name is the one the user called (letterlock, sendmail, ...).
func Report(w io.Writer, program string, err error) Code {
	if err == nil {
		return OK
	}
	var fault *Fault
	if !errors.As(err, &fault) {
		fmt.Fprintf(w, "%s: %s\n", program, Line(err.Error()))
		return Software
	}
	// A wrapper may have added where it happened: print the whole chain's text.
	fmt.Fprintf(w, "%s: %s\n", program, Line(err.Error()))
	for _, detail := range fault.Details {
		fmt.Fprintf(w, "%s: %s\n", program, Line(detail))
	}
	if fault.Hint != "" {
		fmt.Fprintf(w, "%s: hint: %s\n", program, Line(fault.Hint))
	}
	return fault.Code
}

// Line makes one printable line of text that may come from outside: control
// characters, terminal escapes and direction overrides among them become '?', and a
// text of over 1,000 characters is cut.
func Line(text string) string {
	const limit = 1000
	var b strings.Builder
	count := 0
	for _, r := range strings.TrimSpace(text) {
		if count == limit {
			b.WriteString(" …")
			break
		}
		count++
		b.WriteRune(printable(r))
	}
	return b.String()
}

func printable(r rune) rune {
	switch {
	case r == '\n' || r == '\t' || r == '\r':
		return ' '
	case r < 0x20, r >= 0x7f && r < 0xa0:
		return '?'
	case r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfeff:
		return '?' // zero-width and bidirectional controls
	}
	return r
}
