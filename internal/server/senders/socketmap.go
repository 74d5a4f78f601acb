package senders

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The maps that a socketmap serves, as they are named in main.cf:
//
//	smtpd_sender_login_maps = socketmap:unix:letterlock/senders:senders
//	virtual_mailbox_maps    = socketmap:unix:letterlock/senders:mailboxes
//	virtual_alias_maps      = socketmap:unix:letterlock/senders:aliases
const (
	MapSenders   = "senders"
	MapMailboxes = "mailboxes"
	MapAliases   = "aliases"
)

// SocketmapOptions are what a socketmap server needs.
type SocketmapOptions struct {
	Book *Book
	Log  *slog.Logger
	// Answer bounds a question; default 20 s. Postfix waits for 100.
	Answer time.Duration
	// DeferSuspended answers "later" for the mailbox of somebody who is disabled, so that
	// senders keep the mail; without it there is no such mailbox.
	DeferSuspended bool
}

// A Socketmap answers Postfix's look-ups (socketmap_table(5)).
type Socketmap struct{ o SocketmapOptions }

// NewSocketmap returns a server on the book.
func NewSocketmap(o SocketmapOptions) *Socketmap {
	if o.Answer == 0 {
		o.Answer = 20 * time.Second
	}
	return &Socketmap{o: o}
}

const (
	// maxQuery is Postfix's own limit for a question.
	maxQuery = 10_000
	// idleLimit ends connections that nobody uses. Postfix closes idle ones after 10 s.
	idleLimit = 10 * time.Minute
)

// Serve answers on the listener, which it closes, until ctx ends.
func (s *Socketmap) Serve(ctx context.Context, listener net.Listener) error {
	return serve(ctx, listener, func(conn net.Conn) {
		err := s.talk(ctx, conn)
		if ctx.Err() == nil && !errors.Is(err, io.EOF) {
			s.o.Log.Warn("socketmap connection ended", "error", err)
		}
	})
}

func (s *Socketmap) talk(ctx context.Context, conn net.Conn) error {
	r := bufio.NewReader(conn)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(idleLimit))
		query, err := readNetstring(r)
		if err != nil {
			if errors.Is(err, errFraming) {
				// Where the next question begins cannot be known any more.
				_, _ = io.WriteString(conn, netstring("PERM malformed request"))
			}
			return err
		}
		reply := s.reply(ctx, string(query))
		_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, netstring(reply)); err != nil {
			return err
		}
	}
}

// reply answers one question: NAME SP KEY.
func (s *Socketmap) reply(ctx context.Context, query string) string {
	name, key, ok := strings.Cut(query, " ")
	if !ok || !utf8.ValidString(query) {
		return "PERM malformed request"
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Answer)
	defer cancel()
	var values []string
	var err error
	switch name {
	case MapSenders:
		// Postfix does not ask about the empty sender; its answer would be nobody.
		values, err = s.o.Book.Logins(ctx, key)
	case MapMailboxes:
		var mailbox string
		if mailbox, err = s.o.Book.Mailbox(ctx, key); mailbox != "" {
			values = []string{mailbox}
		} else if err == nil && s.o.DeferSuspended {
			var suspended bool
			if suspended, err = s.o.Book.Suspended(ctx, key); suspended {
				return "TEMP the mailbox is not in use at present"
			}
		}
	case MapAliases:
		values, err = s.o.Book.Alias(ctx, key)
	default:
		return "PERM no such map"
	}
	switch {
	case err != nil:
		s.o.Log.Error("look-up for Postfix", "map", name, "error", err)
		return "TEMP try again later"
	case len(values) == 0:
		return "NOTFOUND " // the space belongs to it
	}
	return "OK " + strings.Join(values, ",")
}

// errFraming is a request that is no netstring, or too long a one.
var errFraming = errors.New("not a netstring")

// readNetstring reads LENGTH ":" BYTES "," without leading zeros in the length.
func readNetstring(r *bufio.Reader) ([]byte, error) {
	var digits []byte
	for {
		c, err := r.ReadByte()
		switch {
		case err != nil && len(digits) == 0:
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("read netstring: %w", io.ErrUnexpectedEOF)
		case c == ':' && len(digits) > 0:
			return readBody(r, digits)
		case c < '0' || c > '9' || len(digits) == 5 || len(digits) > 0 && digits[0] == '0':
			return nil, errFraming
		}
		digits = append(digits, c)
	}
}

func readBody(r *bufio.Reader, digits []byte) ([]byte, error) {
	length, err := strconv.Atoi(string(digits))
	if err != nil || length > maxQuery {
		return nil, errFraming
	}
	body := make([]byte, length+1)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read netstring: %w", err)
	}
	if body[length] != ',' {
		return nil, errFraming
	}
	return body[:length], nil
}

func netstring(text string) string { return strconv.Itoa(len(text)) + ":" + text + "," }
