package intake

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// SocketPath is where the system's agent listens.
const SocketPath = "/run/letterlock/submit.sock"

// The patience of a client. An answer comes after two syncs of the disk, and after the
// server's own queue of connections.
const (
	dialTime   = 5 * time.Second
	writeTime  = 60 * time.Second
	answerTime = 90 * time.Second
)

// A Refusal is the server's no.
type Refusal struct {
	Code       cli.Code
	What, Hint string
}

// Error returns what the server said.
func (r *Refusal) Error() string { return r.What }

// Final says whether asking again would bring the same answer. A system that is not
// (yet) set up to send is not final: mail waits for that.
func (r *Refusal) Final() bool {
	switch r.Code {
	case cli.Usage, cli.DataError, cli.NoUser, cli.NoPerm:
		return true
	}
	return false
}

// ErrUnanswered: the server got everything and said nothing. It may have taken the
// message; who asks again with the same id learns whether it has.
var ErrUnanswered = errors.New("it has not answered")

// A Receipt says that the message is in the system's queue.
type Receipt struct {
	ID    string // of the entry there
	Again bool   // it was there before this hand-over
	conn  net.Conn
}

// Done tells the server that nobody will hand this message over again, so that it need
// not remember it. It is a courtesy: without it the server forgets later.
func (r *Receipt) Done() {
	_ = r.conn.SetWriteDeadline(time.Now().Add(dialTime))
	_, _ = io.WriteString(r.conn, "done\n")
	_ = r.conn.Close()
}

// Submit hands a message of size octets to the server at path. With a Receipt it is
// durable there; end it with Done. A *Refusal says that it is not, or that a hand-over
// of the same ID is still under way. After ErrUnanswered it may be, after any other
// error this hand-over was none; the same submission with the same ID can be handed
// over again.
func Submit(ctx context.Context, path string, s Submission, message io.Reader, size int64) (*Receipt, error) {
	receipt, err := submit(ctx, path, s, message, size)
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		return nil, fmt.Errorf("hand the message to the system: %w", err)
	}
	return receipt, err
}

func submit(ctx context.Context, path string, s Submission, message io.Reader, size int64) (*Receipt, error) {
	if err := s.check(); err != nil {
		return nil, &Refusal{Code: cli.DataError, What: err.Error()}
	}
	head, err := s.encode(size)
	if err != nil {
		return nil, &Refusal{Code: cli.DataError, What: err.Error()}
	}
	dialer := net.Dialer{Timeout: dialTime}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	answer, err := converse(conn, head, message, size)
	switch {
	case err == nil && answer.Code == cli.OK && answer.ID != "":
		return &Receipt{ID: answer.ID, Again: answer.Again, conn: conn}, nil
	case err == nil && answer.Code == cli.OK:
		err = fmt.Errorf("%w: malformed answer", ErrUnanswered)
	case err == nil:
		err = &Refusal{Code: answer.Code, What: answer.What, Hint: answer.Hint}
	case ctx.Err() != nil && errors.Is(err, ErrUnanswered):
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), ErrUnanswered)
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	conn.Close()
	return nil, err
}

// converse sends everything and reads the answer, which may come before everything is
// sent: then the rest does not interest the server any more.
func converse(conn net.Conn, head []byte, message io.Reader, size int64) (Answer, error) {
	sent := send(conn, head, message, size)
	var broken *sourceError
	if errors.As(sent, &broken) {
		return Answer{}, broken.err
	}
	_ = conn.SetReadDeadline(time.Now().Add(answerTime)) // fails on a closed one: so does reading
	answer, err := readAnswer(bufio.NewReader(conn))
	switch {
	case sent != nil && (err != nil || answer.Code == cli.OK):
		return Answer{}, sent // no server takes a message that it has not got whole
	case err != nil:
		return Answer{}, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	return answer, nil
}

// A sourceError is one of our own message, not of the connection.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }

func send(conn net.Conn, head []byte, message io.Reader, size int64) error {
	buffer := make([]byte, 64<<10)
	left := size
	for piece := head; ; {
		if err := conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		if _, err := conn.Write(piece); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		n, err := io.ReadFull(message, buffer[:min(left, int64(len(buffer)))])
		if err != nil {
			return &sourceError{fmt.Errorf("read the message: %w", err)}
		}
		piece, left = buffer[:n], left-int64(n)
	}
}
