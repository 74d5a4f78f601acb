package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// direct measures one message from start to the server's 250.
func direct(ctx context.Context, w *world) error {
	one, err1 := w.home("direct.one")
	all, err2 := w.home("direct.all")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	w.sink.reset()
	sent := 0
	arrived := func() error {
		sent++
		return w.sink.wait(ctx, sent)
	}
	const ours = "letterlock sendmail -v, system's authorities"
	const theirs = "msmtp, the bundle of the system's authorities"
	field := []*contender{
		{name: "letterlock sendmail -v, one authority", argv: []string{w.binary, "sendmail", "-v", recipient}, env: one.env(w.ca.File, false), after: arrived},
		{name: "msmtp, one authority", argv: []string{"msmtp", "-C", filepath.Join(w.work, "msmtp.one"), recipient}, env: plainEnv(), after: arrived},
		{name: ours, argv: []string{w.binary, "sendmail", "-v", recipient}, env: all.env(w.bundle, true), after: arrived},
		{name: theirs, argv: []string{"msmtp", "-C", filepath.Join(w.work, "msmtp.all"), recipient}, env: plainEnv(), after: arrived},
	}
	if err := race(ctx, w.rounds, w.message, field); err != nil {
		return err
	}
	fmt.Printf("one message seen through, STARTTLS and XOAUTH2, %d rounds (letterlock also queues it durably)\n", w.rounds)
	report(field)
	fmt.Printf("letterlock: %.2fx msmtp with one authority each, %.2fx with the system's (goal 0.25)\n",
		ratio(find(field, field[0].name), find(field, field[1].name)), ratio(find(field, ours), find(field, theirs)))
	return nil
}
