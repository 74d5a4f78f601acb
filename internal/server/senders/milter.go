package senders

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/emersion/go-milter"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Counter counts the messages of app passwords; all instances share it.
type Counter interface {
	// Count adds to the counter of key in the window and returns the new value.
	Count(ctx context.Context, key string, window time.Time, add int) (int, error)
}

// MilterOptions are what the milter needs.
type MilterOptions struct {
	Book    *Book
	Counter Counter
	Log     *slog.Logger
	Now     func() time.Time
	// Open also lets through what nobody signed in for: for a milter that port 25
	// shares with submission. Without it such mail waits, because it means that Postfix
	// does not tell the name ({auth_authen} missing in milter_mail_macros).
	Open bool
	// Answer bounds a question; default 20 s. Postfix waits for 30.
	Answer time.Duration
}

// A Milter refuses messages whose From, Sender or Resent fields are not the sender's.
type Milter struct{ o MilterOptions }

// NewMilter returns a milter on the book.
func NewMilter(o MilterOptions) *Milter {
	if o.Answer == 0 {
		o.Answer = 20 * time.Second
	}
	return &Milter{o: o}
}

// Serve answers on the listener, which it closes, until ctx ends. Messages under way
// then are deferred by Postfix (milter_default_action = tempfail, its default).
func (m *Milter) Serve(ctx context.Context, listener net.Listener) error {
	// The library neither limits its connections nor ends them: serve does, and gives
	// it one at a time.
	return serve(ctx, listener, func(conn net.Conn) {
		one := &single{conn: newQuiet(conn)}
		server := milter.Server{
			// Postfix opens one connection for each SMTP session, before anybody signs in.
			NewMilter: func() milter.Milter { return &session{m: m, ctx: ctx, begun: m.o.Now()} },
			Protocol:  milter.OptNoConnect | milter.OptNoHelo | milter.OptNoBody,
		}
		_ = server.Serve(one)
		<-one.conn.closed
	})
}

// A single is a listener with one connection.
type single struct {
	conn *quiet
	used bool
}

func (s *single) Accept() (net.Conn, error) {
	if s.used {
		return nil, net.ErrClosed
	}
	s.used = true
	return s.conn, nil
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }

// A quiet connection says when it is closed, ends when idle, and says EOF for every end:
// the library prints other errors to the process's standard log.
type quiet struct {
	net.Conn
	closed chan struct{}
}

func newQuiet(conn net.Conn) *quiet { return &quiet{Conn: conn, closed: make(chan struct{})} }

func (q *quiet) Read(p []byte) (int, error) {
	_ = q.SetReadDeadline(time.Now().Add(idleLimit))
	n, err := q.Conn.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// Close is called by the library once, when it is done.
func (q *quiet) Close() error {
	defer close(q.closed)
	return q.Conn.Close()
}

// A session is one of Postfix's SMTP sessions; messages follow each other in it. The
// library forgets the session when it answers with a simple rejection, so that every
// answer here is "continue" or an SMTP reply.
type session struct {
	milter.NoOpMilter
	m     *Milter
	ctx   context.Context
	begun time.Time

	who     Who
	login   string // by which Postfix knows them
	checked bool   // somebody signed in, and the fields are theirs to prove
	fields  map[string][]string
	size    int
	broken  bool // a field holds what ends a line for some readers
}

// The fields that say from whom a message is (RFC 5322 sections 3.6.2 and 3.6.6).
const (
	from         = "from"
	sender       = "sender"
	resentFrom   = "resent-from"
	resentSender = "resent-sender"
)

const (
	maxFields    = 100
	maxFieldSize = 128 << 10
)

// MailFrom finds out who signed in. The macros come with this command only.
func (s *session) MailFrom(envelope string, modifier *milter.Modifier) (milter.Response, error) {
	s.forget()
	login := loginOf(modifier.Macros)
	if login == "" {
		if s.m.o.Open {
			return milter.RespContinue, nil
		}
		s.m.o.Log.Error("a message without a signed-in name", "hint", "milter_mail_macros must hold {auth_authen}; only submission services may ask this milter")
		return reply("451 4.7.1 Sender cannot be checked, try again later"), nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.m.o.Answer)
	defer cancel()
	who, err := s.m.o.Book.Login(ctx, login)
	switch {
	case errors.Is(err, errUnknown):
		return s.refuse(login, "sign-in name is not in force", "550 5.7.1 This sign-in may not send any more"), nil
	case err != nil:
		return s.later(err), nil
	}
	s.who, s.checked, s.login = who, true, login
	if refusal, err := s.standing(ctx); err != nil {
		return s.later(err), nil
	} else if refusal != nil {
		return refusal, nil
	}
	if refusal, err := s.checkEnvelope(ctx, login, envelope); err != nil {
		return s.later(err), nil
	} else if refusal != nil {
		return refusal, nil
	}
	return milter.RespContinue, nil
}

// standing ends a session, politely, once a right has ended that it may stand on: Postfix
// asks nobody again for as long as a connection lasts, and does not say by which of
// several app passwords it was opened. With 421 it closes the connection, and a program
// whose right is good signs in anew and sends.
func (s *session) standing(ctx context.Context) (milter.Response, error) {
	ended, err := s.m.o.Book.Ended(ctx, s.who, s.begun)
	if err != nil || !ended {
		return nil, err
	}
	return s.refuse(s.login, "a right has ended since the connection began", "421 4.7.0 A right of yours has ended meanwhile: sign in again"), nil
}

// loginOf takes the name out of the macros. Names come with and without braces.
func loginOf(macros map[string]string) string {
	if name := macros["{auth_authen}"]; name != "" {
		return name
	}
	return macros["auth_authen"]
}

func (s *session) checkEnvelope(ctx context.Context, login, envelope string) (milter.Response, error) {
	credential := s.who.Credential
	if envelope == "" {
		// A person's program answers "displayed" notices from the empty sender (RFC 8098
		// section 3); its From is checked all the same. A device's list has no such entry.
		if credential != nil && len(credential.Senders) > 0 {
			return s.refuse(login, "empty sender", "553 5.7.1 Sender address rejected: not one of this app password's"), nil
		}
	} else if ok, err := s.m.o.Book.MaySend(ctx, s.who, envelope); err != nil {
		return nil, err
	} else if !ok {
		return s.refuse(login, "envelope sender", "553 5.7.1 Sender address rejected: not owned by you"), nil
	}
	if credential == nil || credential.PerHour == 0 {
		return nil, nil
	}
	// Only a look, so that nothing is sent in vain; the message counts when it is whole.
	sent, err := s.sent(ctx, credential.ID, 0)
	if err != nil {
		return nil, err
	}
	if sent >= credential.PerHour {
		return s.overRate(login), nil
	}
	return nil, nil
}

// RcptTo keeps an app password to its recipients.
func (s *session) RcptTo(recipient string, _ *milter.Modifier) (milter.Response, error) {
	if !s.checked || s.who.Credential == nil || len(s.who.Credential.Recipients) == 0 {
		return milter.RespContinue, nil
	}
	canonical, err := identity.CanonicalAddress(recipient)
	if err != nil || !listed(s.who.Credential.Recipients, canonical) {
		return s.refuse(s.who.Person.Address, "recipient", "550 5.7.1 Recipient address rejected: not one of this app password's"), nil
	}
	return milter.RespContinue, nil
}

// Header collects the fields that count.
func (s *session) Header(name, value string, _ *milter.Modifier) (milter.Response, error) {
	// Postfix takes "From :" for a From field (RFC 5322 section 4.5.3), and so do readers.
	name = strings.ToLower(strings.TrimRight(name, " \t"))
	// A CR alone is a line end to some readers, who then see a From field behind it; NUL
	// ends a line for others. Postfix makes a space of the one before we see it, and cuts
	// at the other (hence message_reject_characters); other senders of milters do not.
	if strings.ContainsAny(strings.ReplaceAll(value, "\r\n", ""), "\r\x00") || strings.ContainsAny(name, "\r\n\x00") {
		s.broken = true
	}
	switch name {
	case from, sender, resentFrom, resentSender:
		if s.size += len(value); s.size > maxFieldSize || len(s.fields[name]) == maxFields {
			s.size = maxFieldSize + 1 // what is not kept is not let through either
			return milter.RespContinue, nil
		}
		if s.fields != nil {
			s.fields[name] = append(s.fields[name], value)
		}
	}
	return milter.RespContinue, nil
}

// Headers judges them, before the body comes.
func (s *session) Headers(textproto.MIMEHeader, *milter.Modifier) (milter.Response, error) {
	if !s.checked {
		return milter.RespContinue, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.m.o.Answer)
	defer cancel()
	problem, err := s.m.o.Book.checkFields(ctx, s.who, s.fields, s.size > maxFieldSize)
	switch {
	case s.broken:
		return s.refuse(s.who.Person.Address, "line end inside a field", "550 5.7.1 Message rejected: a field holds a bare carriage return or NUL"), nil
	case err != nil:
		return s.later(err), nil
	case problem != "":
		return s.refuse(s.who.Person.Address, problem, "550 5.7.1 Message rejected: "+problem), nil
	}
	return milter.RespContinue, nil
}

// Body is the end of the message, which may have taken its time: the right is asked for
// once more, and now the message counts.
func (s *session) Body(*milter.Modifier) (milter.Response, error) {
	if !s.checked {
		return milter.RespContinue, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.m.o.Answer)
	defer cancel()
	if refusal, err := s.standing(ctx); err != nil {
		return s.later(err), nil
	} else if refusal != nil {
		return refusal, nil
	}
	credential := s.who.Credential
	if credential == nil || credential.PerHour == 0 {
		return milter.RespContinue, nil
	}
	switch sent, err := s.sent(ctx, credential.ID, 1); {
	case err != nil:
		return s.later(err), nil
	case sent > credential.PerHour:
		return s.overRate(s.login), nil
	}
	return milter.RespContinue, nil
}

// Abort ends a message, not the session.
func (s *session) Abort(*milter.Modifier) error {
	s.forget()
	return nil
}

func (s *session) forget() {
	s.who, s.login, s.checked, s.fields, s.size, s.broken = Who{}, "", false, map[string][]string{}, 0, false
}

// sent counts messages and returns how many went within the last hour: those of this
// hour of the clock, and of the hour before the share that is not yet an hour ago, as if
// they had been sent evenly. So whoever waits for the full hour gets no double portion;
// parts of a message are left out, or a report that goes each hour would be late for its
// own limit of one.
func (s *session) sent(ctx context.Context, id identity.CredentialID, add int) (int, error) {
	now := s.m.o.Now().UTC()
	hour := now.Truncate(time.Hour)
	count, err := s.m.o.Counter.Count(ctx, counterKey(id), hour, add)
	if err != nil {
		return 0, err
	}
	before, err := s.m.o.Counter.Count(ctx, counterKey(id), hour.Add(-time.Hour), 0)
	if err != nil {
		return 0, err
	}
	left := time.Hour - now.Sub(hour)
	return count + int(float64(before)*left.Hours()), nil
}

func counterKey(id identity.CredentialID) string { return "messages:" + string(id) }

// overRate is for later: the same message may go in the next hour.
func (s *session) overRate(login string) milter.Response {
	return s.refuse(login, "messages an hour", "451 4.7.1 Too many messages within the hour for this app password, try again later")
}

func (s *session) refuse(login, problem, text string) milter.Response {
	attributes := []any{"login", login, "problem", problem}
	if s.who.Credential != nil {
		attributes = append(attributes, "credential", s.who.Credential.ID)
	}
	s.m.o.Log.Info("message refused", attributes...)
	return reply(text)
}

func (s *session) later(err error) milter.Response {
	s.m.o.Log.Error("a sender cannot be checked", "error", err)
	return reply("451 4.3.0 Sender cannot be checked, try again later")
}

// reply is an SMTP reply in words of ours: none of them holds a percent sign, which
// would be a format to some.
func reply(text string) milter.Response { return milter.NewResponseStr('y', text) }
