package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/mail/mtasts"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// A world is the Internet of one test: names, addresses, and servers behind them. The
// addresses are public ones that the test's dialer leads to loopback.
type world struct {
	mu      sync.Mutex
	mx      map[string][]MX
	ips     map[string][]string
	broken  map[string]bool   // names that DNS does not answer for
	servers map[string]string // "ip:25" to where it really is
	dialed  []string
}

func (w *world) MX(_ context.Context, domain string) ([]MX, error) {
	if w.broken[domain] {
		return nil, errors.New("server misbehaving")
	}
	if len(w.mx[domain]) == 0 {
		return nil, ErrNoName
	}
	return slices.Clone(w.mx[domain]), nil
}

func (w *world) Addresses(_ context.Context, host string) ([]netip.Addr, error) {
	if w.broken[host] {
		return nil, errors.New("server misbehaving")
	}
	var out []netip.Addr
	for _, ip := range w.ips[host] {
		out = append(out, netip.MustParseAddr(ip))
	}
	if out == nil {
		return nil, ErrNoName
	}
	return out, nil
}

func (w *world) TXT(context.Context, string) ([]string, error) { return nil, ErrNoName }

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, address)
	to := w.servers[address]
	w.mu.Unlock()
	if to == "" {
		return nil, errors.New("connection refused")
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

type policies map[string]*mtasts.Policy

func (p policies) Policy(_ context.Context, domain string) (*mtasts.Policy, error) {
	return p[domain], nil
}

func (w *world) carrier(t *testing.T, r Route, p Policies, change func(*Options)) *Carrier {
	r.Way = Direct
	if p != nil {
		r.Policies = p
	}
	return carrier(t, r, func(o *Options) {
		o.Resolver, o.Network, o.Hello = w, w.dial, "out.try.test"
		if change != nil {
			change(o)
		}
	})
}

const (
	ip1 = "8.20.1.1"
	ip2 = "8.20.1.2"
	ip6 = "2600::25"
)

func TestDirectOrder(t *testing.T) {
	ca := lab.RunCA(t)
	first, second := startRecorder(t, serverTLS(t, ca), nil), startRecorder(t, serverTLS(t, ca), nil)
	one, two := first.listener.Addr().String(), second.listener.Addr().String()
	later := func(stage, _ string) error {
		if stage == "rcpt" {
			return smtpError(451, 4, 3, 0)
		}
		return nil
	}
	never := func(stage, _ string) error {
		if stage == "data" {
			return smtpError(550, 5, 7, 1)
		}
		return nil
	}
	for _, test := range []struct {
		name    string
		servers map[string]string
		refuse  func(stage, address string) error // of the first
		want    queue.Verdict
		status  string
		dialed  []string
		arrived int // at the second
	}{
		{"best first", map[string]string{ip1 + ":25": one, ip2 + ":25": two}, nil, queue.Delivered, "2.0.0", []string{ip1 + ":25"}, 0},
		{"IPv6 first", map[string]string{"[" + ip6 + "]:25": one, ip1 + ":25": two}, nil, queue.Delivered, "2.0.0", []string{"[" + ip6 + "]:25"}, 0},
		{"down", map[string]string{ip2 + ":25": two}, nil, queue.Delivered, "2.0.0", []string{ip1 + ":25", ip2 + ":25"}, 1},
		{"busy", map[string]string{ip1 + ":25": one, ip2 + ":25": two}, later, queue.Delivered, "2.0.0", []string{ip1 + ":25", ip2 + ":25"}, 1},
		{"both busy", map[string]string{ip1 + ":25": one, ip2 + ":25": one}, later, queue.Deferred, "4.3.0", []string{ip1 + ":25", ip2 + ":25"}, 0},
		{"no means no", map[string]string{ip1 + ":25": one, ip2 + ":25": two}, never, queue.Refused, "5.7.1", []string{ip1 + ":25"}, 0},
		{"all down", nil, nil, queue.Deferred, "4.4.1", []string{ip1 + ":25", ip2 + ":25"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &world{
				mx:      map[string][]MX{"dest.test": {{"mx2.dest.test", 20}, {"mx1.dest.test", 10}}},
				ips:     map[string][]string{"mx1.dest.test": {ip1}, "mx2.dest.test": {ip2}},
				servers: test.servers,
			}
			if test.name == "IPv6 first" {
				w.ips["mx1.dest.test"] = []string{ip6, ip1}
			}
			first.refuse = test.refuse
			before := len(second.all())
			got := carry(t, w.carrier(t, Route{TLS: ca.Client()}, nil, nil), envelope("you@try.test", "a@dest.test"), hello)
			wantVerdicts(t, got, test.want)
			if got[0].Status != test.status || !slices.Equal(w.dialed, test.dialed) || len(second.all())-before != test.arrived {
				t.Errorf("status %s, dialed %v, %d at the second", got[0].Status, w.dialed, len(second.all())-before)
			}
		})
	}
}

func TestDirectUnknownIsNotTriedElsewhere(t *testing.T) {
	ca := lab.RunCA(t)
	f := startFaulty(t, &faulty{config: serverTLS(t, ca), stage: "end", fault: "drop", pipelining: true})
	second := startRecorder(t, nil, nil)
	w := &world{
		mx:      map[string][]MX{"dest.test": {{"mx1.dest.test", 10}, {"mx2.dest.test", 20}}},
		ips:     map[string][]string{"mx1.dest.test": {ip1}, "mx2.dest.test": {ip2}},
		servers: map[string]string{ip1 + ":25": f.listener.Addr().String(), ip2 + ":25": second.listener.Addr().String()},
	}
	got := carry(t, w.carrier(t, Route{}, nil, nil), envelope("you@try.test", "a@dest.test"), hello)
	wantVerdicts(t, got, queue.Unknown)
	if len(second.all()) > 0 {
		t.Error("sent twice")
	}
}

func TestDirectNames(t *testing.T) {
	r := startRecorder(t, nil, nil)
	at := r.listener.Addr().String()
	w := &world{
		mx: map[string][]MX{
			"null.test": {{"", 0}}, "mx.test": {{"mx.mx.test", 1}}, "private.test": {{"in.private.test", 1}},
			"gone.test": {{"nowhere.test", 1}}, "dead.test": {{"mx.dead.test", 1}}, "literal.test": {{"[127.0.0.1]", 1}},
			"xn--bcher-kva.test": {{"mx.mx.test", 1}},
		},
		ips: map[string][]string{
			"mx.mx.test": {ip1}, "a-only.test": {ip2}, "in.private.test": {"10.0.0.1", "127.0.0.1", "::1", "169.254.169.254", "64:ff9b::a00:1"},
		},
		broken:  map[string]bool{"servfail.test": true, "mx.dead.test": true},
		servers: map[string]string{ip1 + ":25": at, ip2 + ":25": at},
	}
	for domain, want := range map[string]struct {
		verdict queue.Verdict
		status  string
	}{
		"mx.test": {queue.Delivered, "2.0.0"}, "MX.Test": {queue.Delivered, "2.0.0"}, "bücher.test": {queue.Delivered, "2.0.0"},
		"a-only.test": {queue.Delivered, "2.0.0"}, "[" + ip1 + "]": {queue.Delivered, "2.0.0"},
		"null.test": {queue.Refused, "5.1.10"}, "nothing.test": {queue.Refused, "5.1.2"}, "gone.test": {queue.Refused, "5.1.2"},
		"private.test": {queue.Refused, "5.4.4"}, "[127.0.0.1]": {queue.Refused, "5.4.4"}, "[IPv6:::1]": {queue.Refused, "5.4.4"},
		"servfail.test": {queue.Deferred, "4.4.3"}, "dead.test": {queue.Deferred, "4.4.3"}, "literal.test": {queue.Deferred, "4.4.4"},
	} {
		got := carry(t, w.carrier(t, Route{}, nil, nil), envelope("you@try.test", "a@"+domain), hello)
		if got[0].Verdict != want.verdict || got[0].Status != want.status {
			t.Errorf("%s: %+v, want %v", domain, got[0], want)
		}
	}
	if slices.ContainsFunc(w.dialed, func(a string) bool { return !strings.HasPrefix(a, "8.20.") }) {
		t.Errorf("connected to %v", w.dialed)
	}
}

// TestDirectTLS: encryption where there is one, and the certificate where the domain's
// policy asks for it.
func TestDirectTLS(t *testing.T) {
	ca, other := lab.RunCA(t), lab.RunCA(t)
	good, err := ca.Server("mx.dest.test")
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := ca.Server("mx.elsewhere.test")
	if err != nil {
		t.Fatal(err)
	}
	enforce := func(hosts ...string) *mtasts.Policy { return &mtasts.Policy{Mode: mtasts.Enforce, MX: hosts} }
	for _, test := range []struct {
		name   string
		config *tls.Config
		policy *mtasts.Policy
		want   queue.Verdict
		status string
		secure bool
	}{
		{"no TLS", nil, nil, queue.Delivered, "2.0.0", false},
		{"unknown authority", serverTLS(t, other), nil, queue.Delivered, "2.0.0", true},
		{"TLS 1.1", &tls.Config{Certificates: good.Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, nil, queue.Delivered, "2.0.0", false},
		{"enforced", good, enforce("mx.dest.test"), queue.Delivered, "2.0.0", true},
		{"enforced by star", good, enforce("*.dest.test"), queue.Delivered, "2.0.0", true},
		{"enforced, no TLS", nil, enforce("mx.dest.test"), queue.Deferred, "4.7.4", false},
		{"enforced, wrong name", wrong, enforce("mx.dest.test"), queue.Deferred, "4.7.5", false},
		{"enforced, unknown authority", serverTLS(t, other), enforce("mx.dest.test"), queue.Deferred, "4.7.5", false},
		{"enforced, another host", good, enforce("mx.other.test", "dest.test"), queue.Deferred, "4.7.0", false},
		{"testing, wrong name", wrong, &mtasts.Policy{Mode: mtasts.Testing, MX: []string{"mx.other.test"}}, queue.Delivered, "2.0.0", true},
		{"none", nil, &mtasts.Policy{Mode: mtasts.None}, queue.Delivered, "2.0.0", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := startRecorder(t, test.config, nil)
			w := &world{
				mx: map[string][]MX{"dest.test": {{"mx.dest.test", 10}}}, ips: map[string][]string{"mx.dest.test": {ip1}},
				servers: map[string]string{ip1 + ":25": r.listener.Addr().String()},
			}
			var logged bytes.Buffer
			c := w.carrier(t, Route{TLS: ca.Client()}, policies{"dest.test": test.policy}, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&logged, nil)) })
			got := carry(t, c, envelope("you@try.test", "a@dest.test"), hello)
			wantVerdicts(t, got, test.want)
			mails := r.all()
			if got[0].Status != test.status || len(mails) != 1 == (test.want == queue.Delivered) || len(mails) == 1 && mails[0].tls != test.secure {
				t.Errorf("%+v, arrived %+v", got[0], mails)
			}
			if strings.HasPrefix(test.name, "testing") && strings.Count(logged.String(), "testing mode") != 2 {
				t.Errorf("log: %s", logged.String())
			}
		})
	}
}

func TestDirectSignsWhatArrives(t *testing.T) {
	// A server without 8BITMIME: what was signed must be what arrives all the same.
	f := startRecorder(t, nil, func(s *smtp.Server) { s.EnableSMTPUTF8 = false })
	w := &world{mx: map[string][]MX{"dest.test": {{"mx.dest.test", 10}}}, ips: map[string][]string{"mx.dest.test": {ip1}},
		servers: map[string]string{ip1 + ":25": f.listener.Addr().String()}}
	var seen []byte
	sign := func(r io.Reader) ([]byte, error) {
		var err error
		seen, err = io.ReadAll(r)
		return []byte("DKIM-Signature: of " + fmt.Sprint(len(seen)) + "\r\n"), err
	}
	c := w.carrier(t, Route{Sign: sign}, nil, nil)
	text := "From: you@try.test\r\nSubject: Gr\u00fc\u00dfe\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nJ\u00fcrgen"
	wantVerdicts(t, carry(t, c, envelope("you@try.test", "a@dest.test"), text), queue.Delivered)
	want := "DKIM-Signature: of " + fmt.Sprint(len(seen)) + "\r\n" + string(seen)
	if got := f.all(); len(got) != 1 || string(got[0].data) != want || !isASCII(want) {
		t.Errorf("signed %q, arrived %v", want, got)
	}
	c = w.carrier(t, Route{Sign: func(io.Reader) ([]byte, error) { return nil, errors.New("no key") }}, nil, nil)
	if _, err := c.Carry(t.Context(), envelope("you@try.test", "a@dest.test"), strings.NewReader(hello)); err == nil || len(f.all()) != 1 {
		t.Error("went out unsigned", err)
	}
}

func TestDirectLocalAndMaildir(t *testing.T) {
	home := t.TempDir()
	folder := func(recipient string) (string, error) {
		name, _, _ := strings.Cut(recipient, "@")
		switch name {
		case "root":
			return filepath.Join(home, name), nil
		case "broken":
			return filepath.Join(home, "file", "x"), nil
		}
		return "", fmt.Errorf("%w: %s", ErrNoMailbox, name)
	}
	if err := os.WriteFile(filepath.Join(home, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{}
	c := w.carrier(t, Route{LocalDomains: []string{"Here.Test"}, Local: &Route{Way: Maildir, Folder: folder}}, nil, nil)
	got := carry(t, c, envelope("you@try.test", "root", "root@here.test", "nobody@HERE.test", "broken", "a@away.test"), "Subject: x\r\n\r\n.dot\rlast")
	wantVerdicts(t, got, queue.Delivered, queue.Delivered, queue.Refused, queue.Deferred, queue.Refused)
	if got[2].Status != "5.1.1" || got[4].Status != "5.1.2" {
		t.Errorf("%+v", got)
	}
	files, err := filepath.Glob(filepath.Join(home, "root", "new", "*"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "Return-Path: <you@try.test>\nDelivered-To: root") || !strings.HasSuffix(string(text), "\nSubject: x\n\n.dot\nlast\n") {
		t.Errorf("stored %q", text)
	}
	if left, _ := filepath.Glob(filepath.Join(home, "root", "tmp", "*")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestMaildirFullDisk(t *testing.T) {
	home := t.TempDir()
	c := carrier(t, Route{Way: Maildir, Folder: func(string) (string, error) { return home, nil }}, nil)
	source := &breaking{Reader: strings.NewReader(hello + strings.Repeat("x\n", 60_000)), passes: 1}
	got, err := c.Carry(t.Context(), envelope("", "root"), source)
	if err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, got, queue.Deferred)
	for _, pattern := range []string{"new/*", "tmp/*"} {
		if left, _ := filepath.Glob(filepath.Join(home, pattern)); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}
