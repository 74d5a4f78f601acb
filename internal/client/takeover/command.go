package takeover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// GPG is what mutt_oauth2.py decrypts with unless its user changed that. The agent
// asks for the passphrase by pinentry; GPG_TTY tells it where.
func GPG() Decrypt { return Command("gpg", "--quiet", "--decrypt") }

// Command decrypts by a program that reads the file on standard input and writes the
// text to standard output. No shell is involved, and no secret is in an argument.
func Command(program string, args ...string) Decrypt {
	return func(ctx context.Context, sealed []byte) ([]byte, error) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		plain := &bounded{limit: maxPlain, full: stop}
		trouble := &bounded{limit: 4 << 10, full: func() {}}
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Stdin = bytes.NewReader(sealed)
		cmd.Stdout = plain
		cmd.Stderr = trouble
		cmd.WaitDelay = 2 * time.Second // a child of its own may hold the pipes
		err := cmd.Run()
		switch {
		case plain.over:
			clear(plain.buf)
			return nil, notMutt("it decrypts to more than any token file holds")
		case err == nil:
			return plain.buf, nil
		}
		clear(plain.buf)
		if cause := context.Cause(ctx); cause != nil {
			return nil, fmt.Errorf("decrypt token file: %w", cause)
		}
		return nil, decryptFault(program, trouble.buf, err)
	}
}

func decryptFault(program string, trouble []byte, err error) error {
	name := filepath.Base(program)
	if errors.Is(err, exec.ErrNotFound) {
		return &cli.Fault{Code: cli.Unavailable, What: cli.Line(name) + ", which decrypts the token file, is not installed",
			Hint: "install it, or name the program that decrypts the file", Err: err}
	}
	lines := strings.Split(strings.TrimSpace(string(trouble)), "\n")
	last := lines[len(lines)-1]
	if last == "" {
		last = err.Error()
	}
	return &cli.Fault{Code: cli.NoPerm, What: cli.Line(name + " cannot decrypt the token file: " + last),
		Hint: "see that the key is there and unlocked; in a terminal: export GPG_TTY=$(tty)", Err: err}
}

// bounded keeps up to limit bytes, and calls full when more come.
type bounded struct {
	buf   []byte
	limit int
	over  bool
	full  func()
}

// Write implements io.Writer. It takes everything: a program that cannot write its
// last words would fail for that instead.
func (b *bounded) Write(p []byte) (int, error) {
	room := b.limit - len(b.buf)
	if len(p) > room {
		b.over = true
		b.full()
	}
	b.buf = append(b.buf, p[:min(len(p), room)]...)
	return len(p), nil
}
