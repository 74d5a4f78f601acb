package mailauth

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
)

// UpstreamOptions say where the logins are that were there before.
type UpstreamOptions struct {
	// Address of a Dovecot authentication socket, a path or host:port.
	Address string
	// Ours reports whether a secret has the form of one of ours. Such a one is never handed
	// on, right or wrong: what the other side logs and asks is not ours to know. nil:
	// credential.HasForm.
	Ours func(secret.String) bool
	// Name makes the name that the mail server is told of the name that upstream gave, or
	// refuses it. nil: lower case.
	Name func(ctx context.Context, user string) (string, error)
	// Answer bounds a question; default 8 s.
	Answer time.Duration
	Log    *slog.Logger
	Now    func() time.Time
}

// An Upstream is another Dovecot authentication server, which is asked about sign-ins that
// are not ours: mechanisms that we do not have, such as GSSAPI, and passwords that have not
// the form of ours. We are its client, as Postfix was before us.
//
// Each sign-in has a connection of its own, so that one that hangs holds up no other.
type Upstream struct {
	o     UpstreamOptions
	greet time.Duration // for its greeting

	mu     sync.Mutex
	known  []string // lines of MECH, as last heard
	heard  time.Time
	failed time.Time     // when it was asked last and did not answer; zero: it answered
	asking chan struct{} // closed once the question under way is over; nil: none is
}

// NewUpstream returns a client of o.Address.
func NewUpstream(o UpstreamOptions) *Upstream {
	if o.Answer == 0 {
		o.Answer = defaultAnswer
	}
	if o.Ours == nil {
		o.Ours = credential.HasForm
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Name == nil {
		o.Name = func(_ context.Context, user string) (string, error) { return strings.ToLower(user), nil }
	}
	return &Upstream{o: o, greet: greetPatience}
}

// errUpstream means that the other side could not judge: callers answer "later".
var errUpstream = errors.New("the other authentication server")

const (
	maxGreeting   = 64 << 10
	maxMechanisms = 64
	// freshFor is how long a list of mechanisms holds. An smtpd reads it once in its life.
	freshFor = 10 * time.Second
	// greetPatience is what a new connection of Postfix waits for it: Postfix itself waits
	// ten seconds for a greeting.
	greetPatience = 3 * time.Second
	// failedFor is how long one that did not answer is not asked again for its list.
	failedFor = time.Second
	// maxRelays are the sign-ins that one connection may leave in the middle at upstream.
	maxRelays = 16
)

// Beside returns a Door that hands passwords which are not ours on. Tokens stay here.
func (u *Upstream) Beside(own Door) Door { return &besideDoor{own, u} }

type besideDoor struct {
	Door
	up *Upstream
}

// Password implements Door.
func (d *besideDoor) Password(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	if d.up.o.Ours(p.Secret) {
		return d.Door.Password(ctx, p)
	}
	return d.up.password(ctx, p)
}

// password asks about a password by PLAIN, whatever mechanism brought it.
func (u *Upstream) password(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	q := question{mechanism: sasl.Plain, protocol: p.Protocol, remote: p.Remote, secured: p.Secured}
	message := []byte("\x00" + p.User + "\x00" + p.Secret.Reveal())
	r := &relay{up: u, ctx: ctx, question: q}
	defer r.close()
	_, done, err := r.Next(message)
	if err == nil && !done {
		err = fmt.Errorf("%w asks back about PLAIN", errUpstream)
	}
	return r.verdict, err
}

// mechanisms are those of upstream that we have not, with the flags that it gives them.
func (u *Upstream) mechanisms(ctx context.Context, own []string) []string {
	var others []string
	for _, line := range u.list(ctx) {
		if name, _, _ := strings.Cut(line, "\t"); !slices.Contains(own, name) {
			others = append(others, line)
		}
	}
	return others
}

// list is what upstream offers, as far as it is known. Where that is old one caller asks; the
// others wait for it only while nothing is known. Each of them waiting for its own answer,
// one behind the other, an upstream that hangs would hold up every smtpd until Postfix ends
// it, and our own logins with it.
func (u *Upstream) list(ctx context.Context) []string {
	u.mu.Lock()
	now := u.o.Now()
	old := u.heard.IsZero() || now.Sub(u.heard) > freshFor
	asking, known := u.asking, u.known
	mine := old && asking == nil && (u.failed.IsZero() || now.Sub(u.failed) > failedFor)
	if mine {
		asking = make(chan struct{})
		u.asking = asking
	}
	u.mu.Unlock()
	switch {
	case mine:
		u.ask(ctx, asking)
	case asking == nil || len(known) > 0:
		return known
	}
	select {
	case <-asking:
	case <-ctx.Done():
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.known
}

// ask asks for the list, for everybody: that the caller goes away does not end it.
func (u *Upstream) ask(ctx context.Context, asking chan struct{}) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), u.greet)
	defer cancel()
	link, err := u.dial(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	defer close(asking)
	u.asking = nil
	if err != nil {
		// The last known go on: Postfix would not offer them again for the rest of an
		// smtpd's life.
		u.failed = u.o.Now()
		u.o.Log.Warn("no list of mechanisms", "upstream", u.o.Address, "error", err)
		return
	}
	u.known, u.heard, u.failed = link.mechanisms, u.o.Now(), time.Time{}
	link.Close()
}

// upstreams reports whether the mechanism is one that upstream has and we have not.
func (s *SASL) upstreams(ctx context.Context, mechanism string) bool {
	if s.o.Upstream == nil {
		return false
	}
	return slices.ContainsFunc(s.o.Upstream.mechanisms(ctx, s.o.Mechanisms), func(line string) bool {
		name, _, _ := strings.Cut(line, "\t")
		return name == mechanism
	})
}

// A link is one connection to upstream, greeted.
type link struct {
	net.Conn
	r          *bufio.Reader
	mechanisms []string // "GSSAPI", then its flags, each behind a TAB
}

// dial connects and shakes hands within ctx.
func (u *Upstream) dial(ctx context.Context) (*link, error) {
	network := "tcp"
	if filepath.IsAbs(u.o.Address) {
		network = "unix"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, u.o.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUpstream, err)
	}
	l := &link{Conn: conn, r: bufio.NewReaderSize(conn, maxLine)}
	if deadline, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(deadline)
	}
	if err == nil {
		// 2.4 waits for our VERSION before it lists its mechanisms.
		_, err = io.WriteString(conn, "VERSION\t1\t2\nCPID\t"+strconv.Itoa(os.Getpid())+"\n")
	}
	if err == nil {
		l.mechanisms, err = readGreeting(l.r)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", errUpstream, err)
	}
	return l, nil
}

// readGreeting reads up to DONE and returns the mechanisms that can be offered.
func readGreeting(r *bufio.Reader) ([]string, error) {
	var mechanisms []string
	version := false
	for size := 0; ; {
		line, long, err := readLine(r)
		if err != nil {
			return nil, err
		}
		if size += len(line) + 1; long || size > maxGreeting {
			return nil, fmt.Errorf("%w: greeting too long", errBad)
		}
		fields := strings.Split(string(line), "\t")
		switch fields[0] {
		case "VERSION":
			if version = len(fields) > 1 && fields[1] == "1"; !version {
				return nil, fmt.Errorf("%w: not version 1", errBad)
			}
		case "MECH":
			if one, ok := mechanismLine(fields[1:]); ok && len(mechanisms) < maxMechanisms {
				mechanisms = append(mechanisms, one)
			}
		case "DONE":
			if !version {
				return nil, fmt.Errorf("%w: no VERSION", errBad)
			}
			return mechanisms, nil
		}
	}
}

// mechanismLine checks what will stand in our own greeting. ANONYMOUS proves nobody,
// EXTERNAL is about a TLS session that upstream cannot see, and a -PLUS needs to know the
// channel, which Postfix does not tell.
func mechanismLine(fields []string) (string, bool) {
	if len(fields) == 0 || len(fields[0]) == 0 || len(fields[0]) > 20 || strings.ContainsFunc(fields[0], func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) {
		return "", false
	}
	if fields[0] == "ANONYMOUS" || fields[0] == "EXTERNAL" || strings.HasSuffix(fields[0], "-PLUS") {
		return "", false
	}
	line := fields[0]
	for _, flag := range fields[1:] {
		switch flag {
		case "anonymous", "private", "channel-binding":
			return "", false
		case "plaintext", "dictionary", "active", "forward-secrecy", "mutual-auth":
			line += "\t" + flag
		}
	}
	return line, true
}

// A relay carries one sign-in to upstream, message by message. It stands where a mechanism
// of ours would.
type relay struct {
	up       *Upstream
	ctx      context.Context
	question question
	// throttle is asked before the first message, and told of the end; nil: whoever made
	// the relay does that.
	throttle Throttle

	link    *link
	end     func() // of the link
	verdict credential.Verdict
}

// Next sends the client's message and waits for what comes of it.
func (r *relay) Next(message []byte) (challenge []byte, done bool, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.up.o.Answer)
	defer cancel()
	if r.throttle == nil {
		return r.exchange(ctx, message)
	}
	// Who it is comes out at the end, so the network alone is counted.
	attempt := throttle.Attempt{Remote: r.question.remote, Protocol: r.question.protocol}
	if r.link == nil {
		if err := hold(ctx, r.throttle, attempt); err != nil {
			return nil, true, err
		}
	}
	challenge, done, err = r.exchange(ctx, message)
	refused, no := errors.AsType[*credential.Refused](err)
	switch {
	case !done:
	case err == nil:
		r.throttle.Tell(ctx, attempt, true)
	case no && !refused.Proven && !byTicket(r.question.mechanism):
		r.throttle.Tell(ctx, attempt, false)
	default:
		r.throttle.Release(attempt)
	}
	return challenge, done, err
}

// byTicket reports whether a mechanism has no password in it that could be guessed: a
// ticket that is refused has run out.
func byTicket(mechanism string) bool {
	return strings.HasPrefix(mechanism, "GSS") || strings.HasPrefix(mechanism, "GS2-")
}

func (r *relay) exchange(ctx context.Context, message []byte) (challenge []byte, done bool, err error) {
	line := "CONT\t1\t" + base64.StdEncoding.EncodeToString(message) + "\n"
	if r.link == nil {
		if r.link, err = r.up.dial(ctx); err != nil {
			return nil, true, err
		}
		// Nobody reads from it between two messages; it ends with the client's connection,
		// and in any case when nobody can want an answer any more.
		owner, end := context.WithTimeout(r.ctx, patience)
		opened := r.link
		context.AfterFunc(owner, func() { end(); opened.Close() })
		r.end = end
		line = r.question.line(message)
	}
	deadline, _ := ctx.Deadline()
	if err := r.link.SetDeadline(deadline); err != nil {
		return nil, true, fmt.Errorf("%w: %w", errUpstream, err)
	}
	if len(line) > maxLine {
		return nil, true, fmt.Errorf("%w: message too long", errBad)
	}
	if _, err := io.WriteString(r.link, line); err != nil {
		return nil, true, fmt.Errorf("%w: %w", errUpstream, err)
	}
	answer, err := readAnswer(r.link.r)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: %w", errUpstream, err)
	case answer.verb == "CONT":
		return answer.data, false, nil
	case answer.verb == "FAIL" && answer.later:
		err = fmt.Errorf("%w could not judge", errUpstream)
	case answer.verb == "FAIL":
		err = &credential.Refused{Reason: "refused by the other authentication server"}
	default:
		r.verdict, err = r.named(ctx, answer.user)
	}
	return nil, true, err
}

// named makes a verdict of the name that upstream gave.
func (r *relay) named(ctx context.Context, user string) (credential.Verdict, error) {
	name, err := r.up.o.Name(ctx, user)
	if err != nil {
		return credential.Verdict{}, err
	}
	v := credential.Verdict{Login: name}
	v.Person.Address = name
	return v, nil
}

func (r *relay) close() {
	if r.end != nil {
		r.end()
	}
}

// line is AUTH as Postfix would have said it.
func (q question) line(message []byte) string {
	var b strings.Builder
	b.WriteString("AUTH\t1\t" + q.mechanism + "\tservice=" + string(q.protocol) + "\tnologin")
	if q.local.IsValid() {
		b.WriteString("\tlip=" + q.local.String())
	}
	if q.remote.IsValid() {
		b.WriteString("\trip=" + q.remote.String())
	}
	if q.secured {
		b.WriteString("\tsecured")
	}
	if message != nil {
		b.WriteString("\tresp=" + base64.StdEncoding.EncodeToString(message)) // empty: we said minor version 2
	}
	return b.String() + "\n"
}

// An upstreamAnswer is OK, FAIL or CONT.
type upstreamAnswer struct {
	verb  string
	user  string // of OK
	data  []byte // of CONT
	later bool   // of FAIL: nobody could judge
}

// readAnswer reads up to the answer to request 1, the only one of the connection.
func readAnswer(r *bufio.Reader) (upstreamAnswer, error) {
	for range maxPending {
		line, long, err := readLine(r)
		if err != nil {
			return upstreamAnswer{}, err
		}
		if long {
			return upstreamAnswer{}, fmt.Errorf("%w: answer too long", errBad)
		}
		verb, rest, _ := strings.Cut(string(line), "\t")
		id, rest, _ := strings.Cut(rest, "\t")
		switch {
		case verb != "OK" && verb != "FAIL" && verb != "CONT":
			continue // a notice, such as a changed list of mechanisms
		case id != "1":
			return upstreamAnswer{}, fmt.Errorf("%w: an answer to another request", errBad)
		}
		return parseAnswer(verb, rest)
	}
	return upstreamAnswer{}, fmt.Errorf("%w: no answer among its lines", errBad)
}

func parseAnswer(verb, rest string) (upstreamAnswer, error) {
	a := upstreamAnswer{verb: verb}
	if verb == "CONT" {
		var err error
		a.data, err = decode(rest)
		return a, err
	}
	for field := range strings.SplitSeq(rest, "\t") {
		key, value, _ := strings.Cut(field, "=")
		value, err := unescape(value)
		if err != nil {
			return a, err
		}
		switch key {
		case "user":
			a.user = value
		case "temp": // 2.2 and 2.3
			a.later = true
		case "code":
			a.later = a.later || value == "temp_fail"
		}
	}
	if verb == "OK" && (a.user == "" || sasl.CheckUser(a.user) != nil) {
		return a, fmt.Errorf("%w: OK without a usable name", errBad)
	}
	return a, nil
}
