package main

import (
	"context"
	"fmt"
	"os"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// releaseHeld sends what waited for a sign-in of that account.
func (p *program) releaseHeld(ctx context.Context, name string) {
	folder, err := p.queueFolder()
	if err != nil || !isFolder(folder) {
		return
	}
	q, err := p.openQueue()
	if err != nil {
		p.log().Warn("release held mail", "error", err)
		return
	}
	count, err := q.ReleaseAccount(ctx, name)
	if err != nil {
		p.term.Sayf("mail that waited for this stays held: %s", cli.Line(err.Error()))
	}
	if count == 0 {
		return
	}
	p.term.Sayf("%s that waited for this %s sent now", plural(count, "message"), isAre(count))
	if err := p.startDrain(); err != nil {
		p.log().Warn("the queue is not being sent now", "error", err)
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
