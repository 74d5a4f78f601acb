package intake

import (
	"bufio"
	"context"
	"io"
	"net"
	"time"
)

// A patientReader bounds how long a peer may take, for each piece and in all, and ends
// with its context.
type patientReader struct {
	ctx  context.Context
	conn net.Conn
	idle time.Duration
	end  time.Time
}

// Read reads what has come.
func (p *patientReader) Read(b []byte) (int, error) {
	deadline := time.Now().Add(p.idle)
	if deadline.After(p.end) {
		deadline = p.end
	}
	// The deadline before the look at the context: who ends that sets one after it.
	if err := p.conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	return p.conn.Read(b)
}

// exact is a message of a known length. One that ends before is an error and no shorter
// message.
type exact struct {
	r    *bufio.Reader
	left int64
	err  error
}

// Read ends after exactly as many octets as were announced.
func (e *exact) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err != nil && e.left > 0 {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		e.err = err
		return n, err
	}
	return n, nil
}
