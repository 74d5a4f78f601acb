package main

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/bench/load"
)

// A result is how one measurement went.
type result struct {
	load.Result
	cpu time.Duration // of all processes of the server
}

// cpuEach is microseconds of CPU a request.
func (r result) cpuEach() float64 { return float64(r.cpu.Microseconds()) / float64(len(r.Each)) }

// load asks one peer for one page.
func (w *world) load(ctx context.Context, p *peer, page page, span time.Duration) (r result, err error) {
	before, err := load.CPU(p.pid)
	if err != nil {
		return r, err
	}
	r.Result, err = load.Run(ctx, load.Bounds{Conns: w.o.conns, Span: span, Most: w.o.most}, func(context.Context, int) (load.Worker, error) {
		return &visitor{load.Line{Network: "tcp", Address: p.address}, []byte(p.plain(page.path, p.cookie)), len(page.body)}, nil
	})
	if err != nil {
		return r, err
	}
	after, err := load.CPU(p.pid)
	r.cpu = after - before
	return r, err
}

// A visitor opens one page again and again.
type visitor struct {
	load.Line
	request []byte
	length  int
}

// Do implements load.Worker.
func (v *visitor) Do(ctx context.Context) error {
	length, _, err := v.Ask(ctx, v.request)
	if err == nil && length != v.length {
		err = fmt.Errorf("an answer of %d bytes, want %d", length, v.length)
	}
	return err
}
