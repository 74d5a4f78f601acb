package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// drain is how long a server may be silent after the client has said its last word.
const drain = 10 * time.Second

// Tunnel gives a signed-in connection to a mail program on a pipe. IMAP has a
// greeting for that, PREAUTH. POP3 and SMTP have none: there the first commands are
// answered here, so that a program which must log in may do so with any password,
// and from the first command that needs the server on, bytes are copied.
//
// It ends when the server closes (nil), when ctx is done, or when out cannot be
// written. When in ends, our half is closed and what the server still sends is
// passed on until it closes, or is silent for ten seconds. A read of in that is
// still waiting then is interrupted if in has SetReadDeadline, and left behind if not.
func Tunnel(ctx context.Context, conn *Conn, in io.Reader, out io.Writer) error {
	if !conn.signedIn {
		return errors.New("tunnel: not signed in")
	}
	if conn.capabilities == nil {
		if err := conn.during(ctx, func() error { return conn.dialect.ask(conn) }); err != nil {
			return err
		}
	}
	hall, err := newHall(conn)
	if err != nil {
		return err
	}
	shared := &lockedWriter{w: out}
	if _, err := io.WriteString(shared, hall.greeting()); err != nil {
		return fmt.Errorf("write to the client: %w", err)
	}
	t := &tunnel{server: conn.Handover(), in: in, out: shared, hall: hall, drain: drain}
	return t.run(ctx)
}

// TunnelRefusal is the greeting of a tunnel that could not sign in: the one line that
// the mail program may show to its user. It ends in CRLF.
func TunnelRefusal(protocol Protocol, temporary bool, text string) string {
	text = ascii(text)
	switch {
	case protocol == IMAP && temporary:
		return "* BYE [UNAVAILABLE] " + text + "\r\n" // RFC 5530
	case protocol == IMAP:
		return "* BYE [AUTHENTICATIONFAILED] " + text + "\r\n"
	case protocol == POP3 && temporary:
		return "-ERR [SYS/TEMP] " + text + "\r\n" // RFC 3206
	case protocol == POP3:
		return "-ERR [AUTH] " + text + "\r\n"
	case temporary:
		return "421 4.7.0 " + text + "\r\n"
	}
	// 535 answers AUTH; the greeting that refuses is 554: RFC 5321 section 4.3.2.
	return "554 5.7.8 " + text + "\r\n"
}

// ascii is one line that fits into a greeting: RFC 5321 section 4.5.3.1.5 ends it at
// 512 octets, IMAP wants US-ASCII in it.
func ascii(text string) string {
	text = strings.Map(func(r rune) rune {
		if r > '~' {
			return '?'
		}
		return r
	}, cli.Line(text))
	return text[:min(len(text), 400)]
}

type tunnel struct {
	server net.Conn
	in     io.Reader
	out    io.Writer
	hall   hall
	drain  time.Duration
	ended  atomic.Bool // in has ended
}

func (t *tunnel) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { t.server.Close() })
	defer stop()
	up := make(chan struct{})
	go func() {
		defer close(up)
		t.up()
	}()
	err := t.down()
	t.server.Close()
	if d, ok := t.in.(interface{ SetReadDeadline(time.Time) error }); ok && d.SetReadDeadline(time.Unix(1, 0)) == nil {
		<-up
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// up carries the client's bytes. Its errors are the client's end; the server's end
// shows in down.
func (t *tunnel) up() {
	in := bufio.NewReaderSize(t.in, 32<<10)
	if t.receive(in) {
		_, _ = io.Copy(t.server, in)
	}
	t.ended.Store(true)
	_ = closeWrite(t.server)
	_ = t.server.SetReadDeadline(time.Now().Add(t.drain))
}

// receive answers the client until it wants the server; false: it has gone.
func (t *tunnel) receive(in *bufio.Reader) bool {
	for !t.hall.empty() {
		line, err := boundedLine(in, maxLine)
		if err != nil {
			return false
		}
		reply, next := t.hall.answer(line)
		if reply != "" { // to write nothing may wait for a reader all the same
			if _, err := io.WriteString(t.out, reply); err != nil {
				return false
			}
		}
		switch next {
		case forward:
			if _, err := io.WriteString(t.server, line+"\r\n"); err != nil {
				return false
			}
			return true
		case open:
			return true
		}
	}
	return true
}

// down carries the server's bytes until the server ends.
func (t *tunnel) down() error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := t.server.Read(buffer)
		if n > 0 {
			if _, err := t.out.Write(buffer[:n]); err != nil {
				return fmt.Errorf("write to the client: %w", err)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), t.ended.Load():
			return nil // after the client's end any end of the server will do
		default:
			return fmt.Errorf("read from the server: %w", err)
		}
		if t.ended.Load() {
			_ = t.server.SetReadDeadline(time.Now().Add(t.drain))
		}
	}
}

// A lockedWriter lets both directions write to the client.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
