package upstream

import (
	"fmt"
	"io"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A trace writes the dialogue down and knows the secrets that must not be in it. It
// cleans what goes into errors as well: a hostile or clumsy server may send the token
// back.
type trace struct {
	w      io.Writer // nil: nobody listens
	hidden secret.Veil
}

// hide keeps a secret, and the line that carries it, out of everything from now on.
func (t *trace) hide(s secret.String) { t.hidden.Hide(s.Reveal()) }

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
	return cli.Line(t.hidden.Text(text))
}
