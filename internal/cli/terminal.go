package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// LineLimit is the longest answer that a prompt takes. Redirect URLs of sign-ins with
// signed state reach some thousand bytes.
const LineLimit = 64 << 10

// ErrNobody means that a question cannot be asked: there is neither a terminal nor
// anything on standard input.
var ErrNobody = errors.New("there is nobody to ask: no terminal, and nothing on standard input")

// A Terminal is where a program meets a person.
type Terminal struct {
	In  io.Reader
	Out io.Writer // results, and nothing else
	Err io.Writer // everything meant for a person

	Interactive bool // a person can be asked
	OutTTY      bool // Out is a terminal
	ErrTTY      bool // Err is a terminal
	Color       bool // Err may be coloured

	tty   *os.File // where to ask; nil when not Interactive
	lines *bufio.Reader
	mu    sync.Mutex // guards lines against a reader left behind by a cancelled Ask
}

// Attach makes the Terminal of a process. A person can be asked when standard input is
// a terminal, or when it is taken by a pipe but the controlling terminal can be opened
// and standard error shows up there.
func Attach(in, out, errs *os.File, getenv func(string) string) *Terminal {
	t := &Terminal{In: in, Out: out, Err: errs, OutTTY: term.IsTerminal(int(out.Fd()))}
	errTTY := term.IsTerminal(int(errs.Fd()))
	t.ErrTTY = errTTY
	t.Color = errTTY && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	if term.IsTerminal(int(in.Fd())) {
		t.tty, t.Interactive = in, true
	}
	return t
}

// Sayf prints one line for the person. Text from outside must have gone through Line.
func (t *Terminal) Sayf(format string, args ...any) {
	fmt.Fprintf(t.Err, format+"\n", args...)
}

// Ask reads one line and shows what is typed.
func (t *Terminal) Ask(ctx context.Context, prompt string) (string, error) {
	return t.ask(ctx, prompt, true)
}

// AskHidden reads one line without showing it.
func (t *Terminal) AskHidden(ctx context.Context, prompt string) (string, error) {
	return t.ask(ctx, prompt, false)
}

// Confirm asks a yes-or-no question; the empty answer is no.
func (t *Terminal) Confirm(ctx context.Context, question string) (bool, error) {
	answer, err := t.Ask(ctx, question+" [y/N] ")
	if err != nil {
		return false, err
	}
	answer = strings.ToLower(answer)
	return answer == "y" || answer == "yes", nil
}

// ask waits for the line or the end of ctx. A read from a terminal cannot be broken
// off: the reading goroutine then stays until the process ends, which it does next.
func (t *Terminal) ask(ctx context.Context, prompt string, echo bool) (string, error) {
	restore := func() {}
	raw := false
	if t.tty != nil {
		// Raw, because the kernel's line discipline cuts a line at 4,095 bytes and
		// pasted redirect URLs may be longer.
		if state, err := term.MakeRaw(int(t.tty.Fd())); err == nil {
			restore = sync.OnceFunc(func() { _ = term.Restore(int(t.tty.Fd()), state) })
			raw = true
		}
	}
	defer restore()
	// Only now: what is typed or pasted as soon as the prompt is there must not be
	// echoed by the terminal itself.
	fmt.Fprint(t.Err, prompt)
	type answer struct {
		line string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		line, err := t.readLine(raw, echo)
		done <- answer{line, err}
	}()
	select {
	case a := <-done:
		restore()
		if raw || !echo || t.tty == nil {
			fmt.Fprintln(t.Err)
		}
		return a.line, a.err
	case <-ctx.Done():
		restore()
		fmt.Fprintln(t.Err)
		return "", context.Cause(ctx)
	}
}

func (t *Terminal) readLine(raw, echo bool) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lines == nil {
		t.lines = bufio.NewReader(t.In)
	}
	if !raw {
		return readPlain(t.lines)
	}
	var show io.Writer = io.Discard
	if echo {
		show = t.Err
	}
	return readRaw(t.lines, show)
}

var errTooLong = fmt.Errorf("the answer is longer than %d bytes", LineLimit)

func readPlain(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		c, err := r.ReadByte()
		if err == io.EOF && len(line) > 0 || c == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		if err == io.EOF {
			return "", ErrNobody
		}
		if err != nil {
			return "", err
		}
		if len(line) == LineLimit {
			return "", errTooLong
		}
		line = append(line, c)
	}
}

// ErrInterrupted means that the person pressed Ctrl-C or Ctrl-D at a prompt.
var ErrInterrupted = errors.New("interrupted")

// readRaw is line editing at its smallest: erase a character, erase all, give up.
// Escape sequences (cursor keys, bracketed paste) are swallowed.
func readRaw(r *bufio.Reader, show io.Writer) (string, error) {
	var line []byte
	for {
		c, err := r.ReadByte()
		if err != nil {
			return "", ErrInterrupted
		}
		switch c {
		case '\r', '\n':
			return string(line), nil
		case 3, 4: // Ctrl-C, Ctrl-D
			return "", ErrInterrupted
		case 8, 127:
			line = eraseRune(line, show)
		case 21: // Ctrl-U
			for len(line) > 0 {
				line = eraseRune(line, show)
			}
		case 27:
			skipEscape(r)
		default:
			if c < 0x20 {
				continue
			}
			if len(line) == LineLimit {
				return "", errTooLong
			}
			line = append(line, c)
			_, _ = show.Write([]byte{c})
		}
	}
}

func eraseRune(line []byte, show io.Writer) []byte {
	if len(line) == 0 {
		return line
	}
	end := len(line) - 1
	for end > 0 && line[end]&0xc0 == 0x80 {
		end--
	}
	_, _ = io.WriteString(show, "\b \b")
	return line[:end]
}

// skipEscape reads the rest of a CSI or SS3 sequence.
func skipEscape(r *bufio.Reader) {
	if r.Buffered() == 0 {
		return // the escape key by itself
	}
	c, err := r.ReadByte()
	if err != nil || c != '[' && c != 'O' {
		return
	}
	for {
		c, err = r.ReadByte()
		if err != nil || c >= 0x40 && c <= 0x7e {
			return
		}
	}
}

// Good, Bad and Dim colour text on terminals that want it.
func (t *Terminal) Good(text string) string { return t.paint("32", text) }

// Bad colours text red.
func (t *Terminal) Bad(text string) string { return t.paint("31", text) }

// Dim makes text stand back.
func (t *Terminal) Dim(text string) string { return t.paint("2", text) }

func (t *Terminal) paint(code, text string) string {
	if !t.Color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// LineWriter prints each line written to it through Line, after prefix: for traces,
// which carry what remote peers say.
func LineWriter(w io.Writer, prefix string) io.Writer { return &lineWriter{w: w, prefix: prefix} }

type lineWriter struct {
	mu     sync.Mutex
	w      io.Writer
	prefix string
	rest   []byte
}

func (l *lineWriter) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, data...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			if len(l.rest) > LineLimit {
				l.rest = l.rest[:0] // a peer without line ends does not fill memory
			}
			return len(data), nil
		}
		if _, err := fmt.Fprintf(l.w, "%s%s\n", l.prefix, Line(string(l.rest[:i]))); err != nil {
			return 0, err
		}
		l.rest = l.rest[i+1:]
	}
}
