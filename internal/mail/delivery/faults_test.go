package delivery

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A faulty is an SMTP server that does everything right but for one thing at one stage.
type faulty struct {
	listener   net.Listener
	config     *tls.Config
	pipelining bool
	stage      string
	fault      string

	mu       sync.Mutex
	messages int  // complete ones, whatever was answered
	token    bool // a sign-in was seen in plain text
	wait     sync.WaitGroup
	done     chan struct{}
	reached  chan struct{} // closed when the server is where its fault is
	reach    func()
}

func startFaulty(t *testing.T, f *faulty) *faulty {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.listener, f.done, f.reached = listener, make(chan struct{}), make(chan struct{})
	f.reach = sync.OnceFunc(func() { close(f.reached) })
	f.wait.Add(1)
	go func() {
		defer f.wait.Done()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.wait.Add(1)
			_ = conn.(*net.TCPConn).SetReadBuffer(8 << 10)
			go func() {
				defer f.wait.Done()
				defer conn.Close()
				f.serve(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		close(f.done)
		f.wait.Wait()
	})
	return f
}

// reply says what is right at this stage, or does what is wrong. It reports whether the
// session goes on.
func (f *faulty) reply(conn net.Conn, stage, right string) bool {
	if stage != f.stage {
		_, err := io.WriteString(conn, right+"\r\n")
		return err == nil
	}
	if stage == "message" && f.fault != "drop" && f.fault != "reset" {
		// The client is in the middle of it: whatever is said, nothing is read any more.
		defer func() { <-f.done }()
	}
	if stage != "message" || !f.answers() {
		f.reach()
	}
	switch f.fault {
	case "hang":
		f.untilGone(conn, stage)
		return false
	case "drop":
		return false
	case "reset":
		if raw, ok := conn.(*net.TCPConn); ok {
			_ = raw.SetLinger(0)
		}
		return false
	case "half":
		_, _ = io.WriteString(conn, right[:2])
		return false
	case "half line":
		_, _ = io.WriteString(conn, right) // without its end
		return false
	case "half reply":
		_, _ = io.WriteString(conn, right[:3]+"-more to come\r\n")
		return false
	case "garbage":
		_, _ = io.WriteString(conn, "\x00\xff<html>no mail here\r\n")
		f.untilGone(conn, stage)
		return false
	case "codes differ":
		_, _ = io.WriteString(conn, right[:3]+"-one\r\n550 two\r\n")
		f.untilGone(conn, stage)
		return false
	case "flood":
		line := strings.Repeat("x", 64<<10)
		for _, err := io.WriteString(conn, right[:3]+"-"); err == nil; {
			_, err = io.WriteString(conn, line)
		}
		return false
	case "endless":
		for err := error(nil); err == nil; {
			_, err = io.WriteString(conn, right[:3]+"-and on\r\n")
		}
		return false
	}
	_, _ = io.WriteString(conn, f.fault+"\r\n") // "451 4.3.0 later"
	f.reach()
	return !strings.HasPrefix(f.fault, "421")
}

// answers says whether the fault is a whole reply.
func (f *faulty) answers() bool { return f.fault != "" && f.fault[0] >= '2' && f.fault[0] <= '5' }

// dial connects a client for which no time passes until the server is where its fault
// is: a machine that stands still before that must not look like the fault. What the
// server has said by then is there to be read, however long that takes.
func (f *faulty) dial(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &stoppedClock{Conn: raw, never: f.answers()}
	f.wait.Go(func() {
		select {
		case <-f.reached:
			conn.start()
		case <-f.done:
		}
	})
	return conn, nil
}

// A stoppedClock is a connection whose deadlines count from its start.
type stoppedClock struct {
	net.Conn
	never bool // for reading

	mu          sync.Mutex
	started     bool
	read, write time.Duration // asked for and still to be set
}

func (c *stoppedClock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = true
	if c.read != 0 && !c.never {
		_ = c.Conn.SetReadDeadline(time.Now().Add(c.read))
	}
	if c.write != 0 {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(c.write))
	}
}

func (c *stoppedClock) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started && !c.never {
		return c.Conn.SetReadDeadline(at)
	}
	c.read = fromNow(at)
	return nil
}

func (c *stoppedClock) SetWriteDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started {
		return c.Conn.SetWriteDeadline(at)
	}
	c.write = fromNow(at)
	return nil
}

func (c *stoppedClock) SetDeadline(at time.Time) error {
	return errors.Join(c.SetReadDeadline(at), c.SetWriteDeadline(at))
}

func fromNow(at time.Time) time.Duration {
	if at.IsZero() {
		return 0
	}
	return max(time.Until(at), 1)
}

func (f *faulty) untilGone(conn net.Conn, stage string) {
	if stage != "message" {
		_, _ = io.Copy(io.Discard, conn)
	}
}

func (f *faulty) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	if !f.reply(conn, "greeting", "220 faulty.test ESMTP") {
		return
	}
	hellos, secure := 0, false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		on := true
		switch verb {
		case "EHLO":
			hellos++
			ehlo := "250-faulty.test\r\n250-8BITMIME\r\n"
			if f.pipelining {
				ehlo += "250-PIPELINING\r\n"
			}
			if secure {
				ehlo += "250 AUTH XOAUTH2 OAUTHBEARER PLAIN"
			} else if f.stage == "strip" {
				ehlo += "250 AUTH XOAUTH2" // STARTTLS taken out on the way
			} else {
				ehlo += "250-STARTTLS\r\n250 AUTH XOAUTH2"
			}
			on = f.reply(conn, fmt.Sprintf("EHLO %d", hellos), ehlo)
		case "STARTTLS":
			if f.stage == "STARTTLS" && f.fault == "inject" {
				// In one write, so that it is in the client's buffer together.
				_, _ = io.WriteString(conn, "220 go\r\n250-faulty.test\r\n250 AUTH XOAUTH2\r\n")
			} else if !f.reply(conn, "STARTTLS", "220 go") {
				return
			} else if f.stage == "STARTTLS" {
				continue
			}
			if f.stage == "TLS" {
				f.reply(conn, "TLS", "\x15\x03\x01\x00\x02\x02\x28")
				return
			}
			secured := tls.Server(conn, f.config)
			if secured.Handshake() != nil {
				return
			}
			conn, in, secure = secured, bufio.NewReader(secured), true
		case "AUTH":
			if !secure {
				f.mu.Lock()
				f.token = true
				f.mu.Unlock()
			}
			on = f.reply(conn, "AUTH", "235 2.7.0 welcome")
		case "MAIL":
			on = f.reply(conn, "MAIL", "250 2.1.0 ok")
		case "RCPT":
			on = f.reply(conn, "RCPT", "250 2.1.5 ok")
		case "DATA":
			if on = f.reply(conn, "DATA", "354 go"); on && (f.stage != "DATA" || strings.HasPrefix(f.fault, "354")) {
				on = f.data(conn, in)
			}
		default:
			on = f.reply(conn, verb, "250 ok")
		}
		if !on || verb == "QUIT" {
			return
		}
	}
}

func (f *faulty) data(conn net.Conn, in *bufio.Reader) bool {
	if f.stage == "message" {
		_, _ = io.CopyN(io.Discard, in, 1000)
		return f.reply(conn, "message", "250 never")
	}
	lines := 0
	for ; ; lines++ {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
	}
	if lines > 0 { // no lines: the dot that ends a DATA which came too early
		f.mu.Lock()
		f.messages++
		f.mu.Unlock()
	}
	return f.reply(conn, "end", "250 2.0.0 queued")
}

// TestEveryStageEveryFault is the promise of the package comment, as a table.
func TestEveryStageEveryFault(t *testing.T) {
	ca := lab.RunCA(t)
	config := serverTLS(t, ca)
	stages := []string{"greeting", "EHLO 1", "STARTTLS", "TLS", "EHLO 2", "AUTH", "MAIL", "RCPT", "DATA", "message", "end"}
	faults := []string{"hang", "drop", "reset", "half", "half line", "half reply", "garbage", "codes differ", "flood", "endless",
		"421 4.3.2 closing", "451 4.3.0 later", "550 5.7.1 never", "354 what", "200"}
	for _, pipelining := range []bool{true, false} {
		for _, stage := range stages {
			if stage == "message" && !pipelining {
				continue // by then there is no difference
			}
			for _, fault := range faults {
				t.Run(fmt.Sprintf("pipelining=%v/%s/%s", pipelining, stage, fault), func(t *testing.T) {
					t.Parallel()
					f := startFaulty(t, &faulty{config: config, pipelining: pipelining, stage: stage, fault: fault})
					c := carrier(t, submission(provider.STARTTLS, f.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}),
						func(o *Options) {
							if fault == "hang" || stage == "message" {
								o.Timeouts, o.Network = fastTimeouts(), f.dial
							}
						})
					text := hello
					if stage == "message" {
						text += strings.Repeat(strings.Repeat("x", 70)+"\r\n", 90_000) // more than any socket buffer
					}
					got := carry(t, c, envelope("you@try.test", "a@else.test", "b@else.test"), text)
					want := wantedVerdict(stage, fault)
					wantVerdicts(t, got, want, want)
					for _, one := range got {
						if one.Reply == "" || one.Status == "" || strings.Contains(one.Reply, testToken) {
							t.Errorf("outcome %+v", one)
						}
					}
					f.mu.Lock()
					defer f.mu.Unlock()
					if taken := f.messages > 0; taken != (stage == "end" || want == queue.Delivered) {
						t.Errorf("the server has %d messages", f.messages)
					}
					if f.token {
						t.Error("signed in without TLS")
					}
				})
			}
		}
	}
}

func wantedVerdict(stage, fault string) queue.Verdict {
	four, five := strings.HasPrefix(fault, "4"), strings.HasPrefix(fault, "550")
	switch {
	case stage == "end" && four:
		return queue.Deferred
	case stage == "end" && five:
		return queue.Refused
	case stage == "end" && fault == "200":
		return queue.Delivered
	case stage == "end":
		return queue.Unknown
	case five && stage == "AUTH":
		return queue.SignIn
	case five && (stage == "MAIL" || stage == "RCPT" || stage == "DATA" || stage == "message"):
		return queue.Refused
	case stage == "DATA" && strings.HasPrefix(fault, "354"):
		return queue.Delivered
	case fault == "200" && stage == "RCPT": // any 2xx is consent there: 250, 251, 252
		return queue.Delivered
	}
	return queue.Deferred
}

func TestStrippedAndInjectedSTARTTLS(t *testing.T) {
	ca := lab.RunCA(t)
	for _, f := range []*faulty{{stage: "strip"}, {stage: "STARTTLS", fault: "inject"}} {
		f.config = serverTLS(t, ca)
		startFaulty(t, f)
		c := carrier(t, submission(provider.STARTTLS, f.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}), nil)
		got := carry(t, c, envelope("you@try.test", "a@else.test"), hello)
		wantVerdicts(t, got, queue.Deferred)
		if got[0].Status != "4.7.4" {
			t.Errorf("status %s: %s", got[0].Status, got[0].Reply)
		}
		f.mu.Lock()
		if f.token || f.messages > 0 {
			t.Errorf("%s %s: something went out", f.stage, f.fault)
		}
		f.mu.Unlock()
	}
}

func TestCanceledAfterTheDotIsUnknown(t *testing.T) {
	ca := lab.RunCA(t)
	f := startFaulty(t, &faulty{config: serverTLS(t, ca), stage: "end", fault: "hang", pipelining: true})
	c := carrier(t, submission(provider.STARTTLS, f.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}), nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.options.Trace = writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "(message") {
			go func() {
				<-f.reached // the trace comes before the message: wait until the server has it
				cancel()
			}()
		}
		return len(p), nil
	})
	got, err := c.Carry(ctx, envelope("you@try.test", "a@else.test"), strings.NewReader(hello))
	if err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, got, queue.Unknown)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestNoCommandHoldsALineEnd is for the day when a check of addresses has a hole.
func TestNoCommandHoldsALineEnd(t *testing.T) {
	for _, line := range []string{"RCPT TO:<a>\r\nDATA", "RCPT TO:<a\n>", "MAIL FROM:<\x00>", "a\rb"} {
		client, server := net.Pipe()
		s := &session{carrier: New(Options{}), raw: client}
		s.limits = s.carrier.options.Timeouts
		s.use(client)
		s.put("NOOP")
		s.put(line)
		if err := s.flush(); !errors.Is(err, errInjection) {
			t.Errorf("%q leaves: %v", line, err)
		}
		client.Close()
		if got, _ := io.ReadAll(server); len(got) > 0 {
			t.Errorf("%q left", got)
		}
	}
}
