package delivery

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A peer is a server to talk to, and how.
type peer struct {
	network string // "tcp", "unix"
	address string // to connect to
	name    string // to show, and to check the certificate against
	port    int
	hello   string
	lmtp    bool
	// security: opportunistic is STARTTLS when offered, without a look at the
	// certificate (RFC 7435), and plain text when not.
	security provider.Security
	config   *tls.Config
	login    *login // nil: no sign-in
	stranger bool   // somebody's MX: there is nothing to sign in with, ever
}

const opportunistic provider.Security = "opportunistic"

// A session is one connection to a server, for one goroutine at a time.
type session struct {
	carrier *Carrier
	peer    peer
	raw     net.Conn // below TLS: closing it ends any wait
	conn    net.Conn
	in      *bufio.Reader
	out     *bufio.Writer
	limits  Timeouts
	hidden  secret.Veil // never to be seen in an answer or a trace

	can     extensions
	secured bool
	sent    int  // transactions
	dirty   bool // a transaction was begun and not ended: RSET comes first
	broken  bool // nothing more can be said
	putErr  error
}

// extensions are what EHLO told.
type extensions struct {
	names map[string]string // upper-case keyword to parameters
	size  int64
}

func (e extensions) has(name string) bool {
	_, ok := e.names[name]
	return ok
}

// open connects and signs in. A token that the server refuses is renewed once, and
// tried on a new connection: after a failed AUTH servers differ in what they still
// listen to.
func (c *Carrier) open(ctx context.Context, p peer) (*session, *failure) {
	if p.login == nil {
		return c.connect(ctx, p, secret.String{})
	}
	given, f := p.login.given(ctx, p.name, secret.String{})
	if f != nil {
		return nil, f
	}
	s, f := c.connect(ctx, p, given)
	if f == nil || f.verdict != queue.SignIn || f.closed || p.login.tokens == nil {
		return s, f
	}
	renewed, other := p.login.given(ctx, p.name, given)
	if other != nil {
		return nil, other
	}
	if renewed.Equal(given) {
		return nil, f // there is no other; asking again would look like guessing
	}
	return c.connect(ctx, p, renewed)
}

// connect goes from nothing to a server that waits for MAIL.
func (c *Carrier) connect(ctx context.Context, p peer, given secret.String) (*session, *failure) {
	dial := c.options.Network
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	dialing, cancel := context.WithTimeout(ctx, c.options.Timeouts.Connect)
	defer cancel()
	raw, err := dial(dialing, p.network, p.address)
	if err != nil {
		return nil, unconnected(p.address, err)
	}
	s := &session{carrier: c, peer: p, raw: raw, limits: c.options.Timeouts}
	s.use(raw)
	if p.security == provider.Plain && p.network == "tcp" && !loopbackPeer(raw) {
		s.drop()
		return nil, noTLS("plain text is for loopback only", p.name, nil)
	}
	stop := s.until(ctx)
	defer stop()
	if f := s.begin(ctx, given); f != nil {
		s.quit()
		return nil, f
	}
	return s, nil
}

// until ends every wait of the session when ctx is done.
func (s *session) until(ctx context.Context) (stop func() bool) {
	raw := s.raw
	return context.AfterFunc(ctx, func() { raw.Close() })
}

// use reads and writes through conn from now on. TCP_NODELAY is Go's default; the
// buffer makes one write of a pipelined group, and one TLS record of most messages.
func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.in = bufio.NewReaderSize(conn, 4<<10)
	s.out = bufio.NewWriterSize(pacedWriter{s}, 16<<10)
}

// A pacedWriter gives each block its time.
type pacedWriter struct{ s *session }

// Write implements io.Writer.
func (w pacedWriter) Write(p []byte) (int, error) {
	_ = w.s.raw.SetWriteDeadline(time.Now().Add(w.s.limits.Block))
	return w.s.conn.Write(p)
}

func (s *session) begin(ctx context.Context, given secret.String) *failure {
	if s.peer.security == provider.ImplicitTLS {
		if f := s.handshake(ctx); f != nil {
			return f
		}
	}
	greeting, err := s.answer(s.limits.Greeting)
	if err != nil {
		return s.lost("greeting", err)
	}
	if greeting.code != 220 {
		return refusedConnection("greeting", greeting, s.peer.name)
	}
	if f := s.hello(); f != nil {
		return f
	}
	if f := s.upgrade(ctx); f != nil {
		return f
	}
	return s.signIn(given)
}

// hello says EHLO, or LHLO (RFC 2033 section 4.1). HELO is the way back where nothing
// that EHLO offers is needed (RFC 5321 section 3.2): at an MX of 1995.
func (s *session) hello() *failure {
	verb := "EHLO "
	if s.peer.lmtp {
		verb = "LHLO "
	}
	r, err := s.command(s.limits.Command, verb+s.peer.hello)
	if err != nil {
		return s.lost("EHLO", err)
	}
	if r.is(5) && (s.peer.security == opportunistic || s.peer.security == plainMX) {
		s.can = extensions{}
		if r, err = s.command(s.limits.Command, "HELO "+s.peer.hello); err != nil {
			return s.lost("HELO", err)
		}
		if r.code == 250 {
			return nil
		}
	}
	if r.code != 250 {
		return refusedConnection("EHLO", r, s.peer.name)
	}
	s.can = parseExtensions(r.lines[1:]) // the first line is the server's name
	return nil
}

func parseExtensions(lines []string) extensions {
	e := extensions{names: make(map[string]string, len(lines))}
	for _, line := range lines {
		name, params, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		// The form from before RFC 2554, which some servers repeat: "AUTH=PLAIN".
		if rest, old := strings.CutPrefix(name, "AUTH="); old {
			name, params = "AUTH", rest+" "+params
		}
		if name == "AUTH" {
			params = e.names["AUTH"] + " " + params
		}
		e.names[name] = params
		if name == "SIZE" {
			// RFC 1870 section 4: 0, or no number, is no limit that we could know.
			if n, err := strconv.ParseInt(strings.TrimSpace(params), 10, 64); err == nil && n > 0 {
				e.size = n
			}
		}
	}
	return e
}

// upgrade is STARTTLS. Asked for, it ends in TLS or in a failure, never in plain text.
func (s *session) upgrade(ctx context.Context) *failure {
	want := s.peer.security
	if want != provider.STARTTLS && want != opportunistic {
		return nil
	}
	if !s.can.has("STARTTLS") {
		if want == opportunistic {
			return nil
		}
		return noTLS("the server offers no STARTTLS", s.peer.name, nil)
	}
	r, err := s.command(s.limits.Command, "STARTTLS")
	if err != nil {
		return s.lost("STARTTLS", err)
	}
	if r.code != 220 {
		if want == opportunistic {
			return nil
		}
		return noTLS("STARTTLS: "+r.String(), s.peer.name, nil)
	}
	// What is there already was sent before TLS and would be read as if it had come
	// through it (RFC 3207 section 6, and the injections of 2011 and 2021). No honest
	// server sends it.
	if s.in.Buffered() > 0 {
		return noTLS("bytes came in plain text after STARTTLS", s.peer.name, nil)
	}
	if f := s.handshake(ctx); f != nil {
		return f
	}
	// RFC 3207 section 4.2: what was offered before TLS may be an attacker's.
	s.can = extensions{}
	return s.hello()
}

func (s *session) handshake(ctx context.Context) *failure {
	_ = s.raw.SetDeadline(time.Now().Add(s.limits.Greeting))
	conn := tls.Client(s.raw, s.peer.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		s.broken = true
		return noTLS(fmt.Sprintf("TLS with %s: %v", s.peer.name, err), s.peer.name, err)
	}
	_ = s.raw.SetDeadline(time.Time{})
	s.use(conn)
	s.secured = true
	return nil
}

// command sends one line and reads its reply.
func (s *session) command(limit time.Duration, line string) (reply, error) {
	s.put(line)
	return s.answer(limit)
}

var errInjection = errors.New("a line end in a command")

// put adds a command to what goes out next. Everything in it has been checked; that a
// line is one line is looked at once more, because the check is all that stands
// between argv and the dialogue.
func (s *session) put(line string) {
	if strings.ContainsAny(line, "\r\n\x00") {
		s.putErr = errInjection
		return
	}
	s.trace("C: ", line)
	s.write(line)
}

// putHidden is put for a line with a secret in it.
func (s *session) putHidden(line, shown string) {
	s.trace("C: ", shown)
	s.write(line)
}

func (s *session) write(line string) {
	if s.putErr != nil {
		return
	}
	// A failure stays in the writer and shows at the flush.
	_, _ = s.out.WriteString(line)
	_, _ = s.out.WriteString("\r\n")
}

func (s *session) flush() error {
	if s.putErr != nil {
		return s.putErr
	}
	return s.out.Flush()
}

// answer sends what is to be sent and reads one reply. The time is for the whole
// reply: a server that drips a byte at a time must not hold us for ever.
func (s *session) answer(limit time.Duration) (reply, error) {
	if err := s.flush(); err != nil {
		s.broken = true
		if last, ok := s.lastWords(); ok {
			return last, nil
		}
		return reply{}, err
	}
	return s.readReply(limit)
}

func (s *session) readReply(limit time.Duration) (reply, error) {
	_ = s.raw.SetReadDeadline(time.Now().Add(limit))
	r, err := readReply(s.in)
	if err != nil {
		s.broken = true
		return reply{}, err
	}
	for i, line := range r.lines {
		r.lines[i] = s.clean(line)
		s.trace("S: ", strconv.Itoa(r.code)+" "+r.lines[i])
	}
	if r.code == 421 { // RFC 5321 section 3.8: the server is closing
		s.broken = true
	}
	return r, nil
}

// lastWords looks for what a server said before it closed on us: "552 too big" in
// the middle of a message is worth more than "broken pipe".
func (s *session) lastWords() (reply, bool) {
	r, err := s.readReply(min(time.Second, s.limits.Command))
	return r, err == nil && (r.is(4) || r.is(5))
}

// clean takes secrets out of a server's words.
func (s *session) clean(text string) string { return s.hidden.Text(text) }

func (s *session) lost(stage string, err error) *failure {
	return lost(stage, s.peer.name, err)
}

// quit says goodbye without waiting for the answer, as Postfix does: the mail is
// delivered, and a round trip would buy nothing.
func (s *session) quit() {
	if !s.broken {
		s.limits.Block = min(s.limits.Block, time.Second)
		s.put("QUIT")
		_ = s.flush()
	}
	s.conn.Close()
}

// drop closes without a word.
func (s *session) drop() {
	s.broken = true
	s.raw.Close()
}

func (s *session) trace(prefix, line string) {
	if w := s.carrier.options.Trace; w != nil {
		s.carrier.traceMu.Lock()
		defer s.carrier.traceMu.Unlock()
		// A trace that cannot be written is not worth losing mail for.
		_, _ = fmt.Fprintf(w, "%s%s\n", prefix, cli.Line(s.clean(line)))
	}
}

func loopbackPeer(conn net.Conn) bool {
	address, ok := conn.RemoteAddr().(*net.TCPAddr)
	return ok && address.IP.IsLoopback()
}
