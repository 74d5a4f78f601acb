package upstream

import (
	"fmt"
	"io"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A trace writes the dialogue down and knows the secrets that must not be in it. It
// cleans what goes into errors as well: a hostile or clumsy server may send the token
// back.
type trace struct {
	w      io.Writer // nil: nobody listens
	hidden []secret.String
}

// hide keeps a secret, and the line that carries it, out of everything from now on.
func (t *trace) hide(s secret.String) {
	if !s.IsZero() {
		t.hidden = append(t.hidden, s)
	}
}

func (t *trace) client(line string) { t.print("C: ", line) }

func (t *trace) server(line string) { t.print("S: ", line) }

// note is for what happened without a line: the TLS handshake.
func (t *trace) note(text string) { t.print("-- ", text) }

func (t *trace) print(prefix, line string) {
	if t.w == nil {
		return
	}
	// A trace that cannot be written is not worth ending a sign-in for.
	_, _ = fmt.Fprintf(t.w, "%s%s\n", prefix, t.clean(line))
}

// clean makes one printable line without secrets.
func (t *trace) clean(text string) string {
	for _, s := range t.hidden {
		text = without(text, s.Reveal())
	}
	return cli.Line(text)
}

// telling is how much of a secret's beginning is enough to hide the rest that
// follows: a server that quotes half a token has still quoted it.
const telling = 12

// without replaces each place where text repeats the secret or its beginning.
func without(text, hidden string) string {
	head := hidden[:min(telling, len(hidden))]
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, head)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString(secret.Redacted)
		n := 0
		for rest := hidden[len(head):]; n < len(rest) && n < len(after) && rest[n] == after[n]; {
			n++
		}
		text = after[n:]
	}
}
