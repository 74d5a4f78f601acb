package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A diary is a queue's journal that a test can read.
type diary struct {
	mu       sync.Mutex
	lines    []string
	refuse   error
	recorded chan struct{} // closed at the first Record
}

func newDiary() *diary { return &diary{recorded: make(chan struct{})} }

func (d *diary) Commit(recipients ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, "commit "+strings.Join(recipients, " "))
	return d.refuse
}

func (d *diary) Record(outcomes ...queue.Outcome) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range outcomes {
		d.lines = append(d.lines, fmt.Sprintf("record %s %d %s", o.Recipient, o.Verdict, o.Status))
	}
	select {
	case <-d.recorded:
	default:
		close(d.recorded)
	}
	return nil
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, lines) {
		t.Errorf("journal:\n%s\nwant:\n%s", strings.Join(d.lines, "\n"), strings.Join(lines, "\n"))
	}
	d.lines = nil
}

// carryJournal is carry with a journal.
func carryJournal(t *testing.T, c *Carrier, d *diary, e queue.Envelope) []queue.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	outcomes, err := c.CarryJournal(ctx, e, strings.NewReader(hello), d)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// TestJournalBeforeTheDot: nothing is committed for whom no server will get the
// message, and nothing gets a message that could not be committed.
func TestJournalBeforeTheDot(t *testing.T) {
	r := startRecorder(t, nil, nil)
	d := newDiary()
	r.refuse = func(stage, address string) error {
		if stage == "data" {
			d.note("arrived")
		}
		if strings.HasPrefix(address, "nobody") {
			return smtpError(550, 5, 1, 1)
		}
		return nil
	}
	c := carrier(t, submission(provider.Plain, r.listener.Addr(), nil, nil), nil)
	wantVerdicts(t, carryJournal(t, c, d, envelope("you@try.test", "a@x.test", "nobody@x.test", "b@x.test")), queue.Delivered, queue.Refused, queue.Delivered)
	d.want(t, "commit a@x.test b@x.test", "arrived")
	wantVerdicts(t, carryJournal(t, c, d, envelope("you@try.test", "nobody@x.test")), queue.Refused)
	d.want(t)
	d.refuse = errors.New("no space left on device")
	got := carryJournal(t, c, d, envelope("you@try.test", "a@x.test"))
	wantVerdicts(t, got, queue.Deferred)
	d.want(t, "commit a@x.test")
	if len(r.all()) != 1 || !strings.Contains(got[0].Reply, "no space left") {
		t.Errorf("%d mails, %+v", len(r.all()), got)
	}
}

// TestJournalTakesBack: a server that said no after the dot, before the next one is
// tried.
func TestJournalTakesBack(t *testing.T) {
	first, second := startRecorder(t, nil, nil), startRecorder(t, nil, nil)
	d := newDiary()
	first.refuse = func(stage, _ string) error {
		if stage == "data" {
			return smtpError(451, 4, 3, 0)
		}
		return nil
	}
	second.refuse = func(stage, _ string) error {
		if stage == "mail" {
			d.note("second")
		}
		return nil
	}
	w := &world{
		mx:      map[string][]MX{"dest.test": {{"mx1.dest.test", 10}, {"mx2.dest.test", 20}}},
		ips:     map[string][]string{"mx1.dest.test": {ip1}, "mx2.dest.test": {ip2}},
		servers: map[string]string{ip1 + ":25": first.listener.Addr().String(), ip2 + ":25": second.listener.Addr().String()},
	}
	wantVerdicts(t, carryJournal(t, w.carrier(t, Route{}, nil, nil), d, envelope("you@try.test", "a@dest.test")), queue.Delivered)
	d.want(t, "commit a@dest.test", fmt.Sprintf("record a@dest.test %d 4.3.0", queue.Deferred), "second", "commit a@dest.test")
}

// TestDomainsSideBySide: two servers that each wait for the other one's mail, and a
// third that waits until what became of them is written down.
func TestDomainsSideBySide(t *testing.T) {
	d := newDiary()
	var meeting sync.WaitGroup
	meeting.Add(2)
	w := &world{mx: map[string][]MX{}, ips: map[string][]string{}, servers: map[string]string{}}
	for i, domain := range []string{"one.test", "two.test", "three.test"} {
		r := startRecorder(t, nil, nil)
		r.refuse = nil
		ip := fmt.Sprintf("8.20.2.%d", i)
		w.ips[domain], w.servers[ip+":25"] = []string{ip}, r.listener.Addr().String()
		once := sync.OnceFunc(func() {
			if i == 2 {
				<-d.recorded
				return
			}
			meeting.Done()
			meeting.Wait()
		})
		r.refuse = func(stage, _ string) error {
			if stage == "mail" {
				once()
			}
			return nil
		}
	}
	sign := false
	for range 2 {
		route := Route{}
		if sign {
			route.Sign = func(r io.Reader) ([]byte, error) { return []byte("X-Signed: yes\r\n"), nil }
		}
		c := w.carrier(t, route, nil, nil)
		wantVerdicts(t, carryJournal(t, c, d, envelope("you@try.test", "a@one.test", "b@two.test", "c@three.test")), queue.Delivered, queue.Delivered, queue.Delivered)
		d.mu.Lock()
		if records := strings.Count(strings.Join(d.lines, "\n"), "record"); records != 2 {
			t.Errorf("%d outcomes recorded on the way, want all but the last: %q", records, d.lines)
		}
		d.lines = nil
		d.mu.Unlock()
		sign = true
	}
}

// TestTokenRefusedWith454: the verdict on the token is in the challenge, whatever the
// reply's code says; without one 454 is an outage.
func TestTokenRefusedWith454(t *testing.T) {
	r := startRecorder(t, nil, func(s *smtp.Server) { s.AllowInsecureAuth = true }) // go-smtp says 454 to a refused token
	good := ""
	r.accept = func(_, token string) bool { return token == good }
	for _, test := range []struct {
		good string
		want queue.Verdict
	}{{"second-token", queue.Delivered}, {"third-token", queue.SignIn}} {
		good = test.good
		source := &tokens{list: []string{"first-token", "second-token"}}
		c := carrier(t, submission(provider.Plain, r.listener.Addr(), nil, source), nil)
		got := carry(t, c, envelope("you@try.test", "a@x.test"), hello)
		wantVerdicts(t, got, test.want)
		if source.asked != 2 || test.want == queue.SignIn && !strings.Contains(got[0].Reply, "454") {
			t.Errorf("asked %d times: %+v", source.asked, got)
		}
	}
	f := startFaulty(t, &faulty{stage: "AUTH", fault: "454 4.7.0 Temporary authentication failure: Connection lost to authentication server"})
	source := &tokens{list: []string{"first-token", "second-token"}}
	got := carry(t, carrier(t, submission(provider.Plain, f.listener.Addr(), nil, source), nil), envelope("you@try.test", "a@x.test"), hello)
	wantVerdicts(t, got, queue.Deferred)
	if source.asked != 1 {
		t.Errorf("asked %d times in an outage", source.asked)
	}
}

func TestJudged(t *testing.T) {
	for challenge, want := range map[string]bool{
		`{"status":"invalid_token"}`: true, `{"status":"401","schemes":"bearer","scope":"mail"}`: true, `{"status":"400"}`: true,
		`{"status":"insufficient_scope"}`: true, `{"status":"503"}`: false, `{"status":"temporarily_unavailable"}`: false,
		"": false, "Password:": false, `{"status":`: false, `{"status":401}`: false, "null": false,
	} {
		if judged(challenge) != want {
			t.Errorf("%q: %v", challenge, !want)
		}
	}
}
