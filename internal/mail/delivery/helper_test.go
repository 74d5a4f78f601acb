package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// patience is how long a machine that does many other things may take: a guard against
// waiting for ever.
const patience = 5 * time.Minute

const testToken = "canary-token-0123456789-abcdefghijklmnop"

// tokens is a TokenSource that gives out its tokens one after the other, the next one
// when the last was refused.
type tokens struct {
	mu      sync.Mutex
	list    []string
	err     error
	asked   int
	refused []string
}

func (s *tokens) Token(_ context.Context, refused secret.String) (secret.String, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if !refused.IsZero() {
		s.refused = append(s.refused, refused.Reveal())
		if len(s.list) > 1 {
			s.list = s.list[1:]
		} else if s.err == nil {
			return secret.String{}, errors.Join(ErrSignIn, errors.New("the grant is used up"))
		}
	}
	if s.err != nil {
		return secret.String{}, s.err
	}
	return secret.New(s.list[0]), nil
}

// fastTimeouts are for a client whose clock stands still until the fault: see
// faulty.dial.
func fastTimeouts() Timeouts {
	const short = 150 * time.Millisecond
	return Timeouts{Greeting: short, Command: short, Data: short, Block: short, End: short}
}

// carrier returns a Carrier with one route.
func carrier(t testing.TB, r Route, change func(*Options)) *Carrier {
	t.Helper()
	// Between two mails of a test no connection grows too old, however slow the machine.
	o := Options{Idle: time.Hour, Routes: func(string) (Route, error) { return r, nil }}
	if change != nil {
		change(&o)
	}
	c := New(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func submission(security provider.Security, address net.Addr, config *tls.Config, source TokenSource) Route {
	return Route{
		Way: Submission, Server: provider.MailServer{Host: "127.0.0.1", Port: address.(*net.TCPAddr).Port, Security: security},
		User: "you@try.test", Tokens: source, TLS: config,
	}
}

func envelope(from string, to ...string) queue.Envelope {
	e := queue.Envelope{From: from, Account: "test"}
	for _, address := range to {
		e.To = append(e.To, queue.Recipient{Address: address})
	}
	return e
}

const hello = "From: you@try.test\r\nTo: a@else.test\r\nSubject: hello\r\n\r\nhello\r\n"

// carry is Carry for a text, which must not fail as a whole.
func carry(t testing.TB, c *Carrier, e queue.Envelope, text string) []queue.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	outcomes, err := c.Carry(ctx, e, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(outcomes) != len(e.To) {
		t.Fatalf("%d outcomes for %d recipients: %v", len(outcomes), len(e.To), outcomes)
	}
	return outcomes
}

func verdicts(outcomes []queue.Outcome) []queue.Verdict {
	var out []queue.Verdict
	for _, one := range outcomes {
		out = append(out, one.Verdict)
	}
	return out
}

func wantVerdicts(t *testing.T, outcomes []queue.Outcome, want ...queue.Verdict) {
	t.Helper()
	if got := verdicts(outcomes); !slices.Equal(got, want) {
		t.Fatalf("verdicts %v, want %v: %+v", got, want, outcomes)
	}
}

func serverTLS(t testing.TB, ca *lab.CA) *tls.Config {
	t.Helper()
	config, err := ca.Server()
	if err != nil {
		t.Fatal(err)
	}
	return config
}
