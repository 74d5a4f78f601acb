package mailauth

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// An other server that takes connections and says nothing holds up one greeting of ours for
// a moment, and not each one behind the other: Postfix ends an smtpd that waits ten seconds
// for its greeting, and our own logins with it.
func TestUpstreamHangs(t *testing.T) {
	place := filepath.Join(t.TempDir(), "auth")
	listener, err := net.Listen("unix", place)
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int32
	var all sync.WaitGroup
	all.Go(func() {
		var held []net.Conn
		for {
			conn, err := listener.Accept()
			if err != nil {
				for _, conn := range held {
					conn.Close()
				}
				return
			}
			dialled.Add(1)
			held = append(held, conn)
		}
	})
	defer all.Wait()
	defer listener.Close()
	var clock atomic.Int64
	up := NewUpstream(UpstreamOptions{Address: place, Log: quietLog(), Now: func() time.Time { return time.Unix(clock.Load(), 0) }})
	up.greet = 50 * time.Millisecond
	clock.Store(1_000_000)
	for range 5 {
		if got := up.mechanisms(t.Context(), nil); len(got) > 0 {
			t.Fatalf("offered %q", got)
		}
	}
	if n := dialled.Load(); n > 1 {
		t.Errorf("asked %d times within a second, want once", n)
	}
	clock.Add(60)
	var at sync.WaitGroup
	for range 8 {
		at.Go(func() { up.mechanisms(t.Context(), nil) })
	}
	at.Wait()
	if n := dialled.Load(); n > 2 {
		t.Errorf("eight at once asked %d times, want once", n-1)
	}
	// What is known is there at once for all but the one that asks again.
	up.known, up.asking = []string{"GSSAPI"}, make(chan struct{})
	clock.Add(60)
	if got := up.mechanisms(t.Context(), nil); !slices.Equal(got, []string{"GSSAPI"}) {
		t.Errorf("offered %q", got)
	}
}

// Postfix never cancels and has one sign-in at a time: what a client left in the middle does
// not stay open at the other server, or a stranger with a few connections would take all that
// it has, for IMAP too.
func TestUpstreamLeftInTheMiddle(t *testing.T) {
	o := startOthers(t)
	dial, _ := start(t, o.beside(&scale{}))
	closed := func(what string) {
		t.Helper()
		select {
		case <-o.closed:
		case <-time.After(bound):
			t.Fatalf("%s: the connection to the other server stays open", what)
		}
	}
	m := dial(0)
	closed("the look at its mechanisms")
	challenge := func(m *mailServer, id int) {
		t.Helper()
		m.send(begin(id, "GSSAPI", "token"))
		m.expect(fmt.Sprintf("CONT\t%d\t", id) + b64("challenge"))
	}
	challenge(m, 1)
	challenge(m, 2)
	closed("a second sign-in of Postfix")
	m.send("CANCEL\t2")
	closed("CANCEL")
	challenge(m, 3)
	m.send("CONT\t3\t!")
	m.expect("FAIL\t3\treason=Invalid credentials")
	closed("an answer that is no base64")
	challenge(m, 4)
	m.send(begin(4, "GSSAPI", "token"))
	m.expect("FAIL\t4\treason=Invalid credentials")
	closed("an id used twice")

	// Others may have several, within bounds.
	m = dial(2)
	for id := 1; id <= maxRelays+1; id++ {
		challenge(m, id)
	}
	closed("too many at once")
	m.send("CONT\t1\t" + b64("more"))
	m.expect("FAIL\t1\treason=Authentication timed out")
}

// A ticket that is refused is no guess: an office whose tickets ran out is not put off. A
// mechanism with a password is counted, and somebody who proved who they are is not.
func TestUpstreamCounts(t *testing.T) {
	for _, c := range []struct {
		mechanism      string
		proven         bool
		told, released int
	}{{"GSSAPI", false, 0, 1}, {"CRAM-MD5", false, 1, 0}, {"CRAM-MD5", true, 0, 1}} {
		o, counts := startOthers(t), &scale{}
		options := o.beside(counts)
		last := "wrong"
		if c.proven {
			last = "more"
			options.Upstream.o.Name = func(_ context.Context, _ string) (string, error) {
				return "", &credential.Refused{Reason: credential.ReasonDisabled, Proven: true}
			}
		}
		dial, end := start(t, options)
		m := dial(0)
		m.send(begin(1, c.mechanism, "token"))
		m.expect("CONT\t1\t" + b64("challenge"))
		m.send("CONT\t1\t" + b64(last))
		if c.proven {
			m.expect("CONT\t1\t")
			m.send("CONT\t1\t")
		}
		m.expect("FAIL\t1\treason=Invalid credentials")
		end()
		if len(counts.told) != c.told || counts.released != c.released {
			t.Errorf("%s, proven %t: told %v, %d released", c.mechanism, c.proven, counts.told, counts.released)
		}
	}
}

// What is left out of the options neither ends the process nor hands anything of ours on.
func TestUpstreamDefaults(t *testing.T) {
	o := startOthers(t)
	up := NewUpstream(UpstreamOptions{Address: o.place})
	up.greet = bound
	if got := up.mechanisms(t.Context(), nil); len(got) == 0 {
		t.Error("nothing is offered")
	}
	d := up.Beside(&door{})
	ours := credential.Presented{User: "ann@example.org", Secret: secret.New("k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p")}
	if _, err := d.Password(t.Context(), ours); err == nil || len(o.lines()) > 0 {
		t.Errorf("%v, heard %q", err, o.lines())
	}
	theirs := credential.Presented{User: "carol", Protocol: identity.SMTP, Secret: secret.New("right")}
	if v, err := d.Password(t.Context(), theirs); err != nil || v.Login != "carol@example.org" {
		t.Errorf("%q, %v", v.Login, err)
	}
}
