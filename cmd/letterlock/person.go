package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/login"
	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// A person is whoever sits in front of the terminal, as the sign-in flows see them.
type person struct {
	ctx       context.Context // of the sign-in, which is all this value lives for
	p         *program
	noBrowser bool
}

func (p *program) desktop() login.Desktop {
	return login.Desktop{GOOS: runtime.GOOS, Getenv: p.getenv, LookPath: exec.LookPath, Stat: os.Stat}
}

// OpenBrowser starts the browser unless told not to.
func (h *person) OpenBrowser(url string) error {
	if h.noBrowser {
		return errors.New("--no-browser was given")
	}
	return login.OpenBrowser(h.ctx, url, h.p.desktop())
}

// ShowURL prints the address on a line of its own, uncut, to be copied.
func (h *person) ShowURL(url string) {
	h.p.term.Sayf("sign in at this address:\n\n%s\n", url)
}

// ShowDevice prints the code, its page, and a QR code where one can be seen.
func (h *person) ShowDevice(auth oauth.DeviceAuth) {
	t := h.p.term
	if auth.VerificationURIComplete != "" && t.Color {
		if code, err := login.QR(auth.VerificationURIComplete); err == nil {
			t.Sayf("%s", code)
		}
	}
	t.Sayf("open %s on any device and enter the code\n\n    %s\n", cli.Line(auth.VerificationURI), cli.Line(auth.UserCode))
}

// Ask reads a line without showing it: what is pasted holds the sign-in code.
func (h *person) Ask(ctx context.Context, prompt string) (string, error) {
	line, err := h.p.term.AskHidden(ctx, prompt)
	if errors.Is(err, cli.ErrNobody) {
		return "", io.EOF
	}
	return line, err
}

// Tell prints a remark.
func (h *person) Tell(line string) { h.p.term.Sayf("%s", cli.Line(line)) }
