package delivery

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosasl "github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A recorder is a go-smtp server that writes down what it was told.
type recorder struct {
	server   *smtp.Server
	listener net.Listener

	mu          sync.Mutex
	accept      func(user, password string) bool
	refuse      func(stage, address string) error
	connections int
	conns       []*smtp.Conn
	resets      int
	mails       []recorded
}

type recorded struct {
	from    string
	options smtp.MailOptions
	to      []string
	rcpt    []smtp.RcptOptions
	data    []byte
	user    string
	tls     bool
}

func startRecorder(t testing.TB, config *tls.Config, change func(*smtp.Server)) *recorder {
	t.Helper()
	r := &recorder{accept: func(string, string) bool { return true }}
	r.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !slices.Contains(r.conns, c) { // it asks again after STARTTLS
			r.connections++
			r.conns = append(r.conns, c)
		}
		return &recording{recorder: r, conn: c}, nil
	}))
	r.server.Domain, r.server.TLSConfig = "recorder.test", config
	r.server.EnableDSN, r.server.EnableSMTPUTF8 = true, true
	r.server.MaxLineLength = 12_288
	r.server.ErrorLog = log.New(io.Discard, "", 0)
	if change != nil {
		change(r.server)
	}
	network, address := "tcp4", "127.0.0.1:0"
	if r.server.LMTP {
		network, address = "unix", t.TempDir()+"/lmtp"
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	r.listener = listener
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = r.server.Serve(listener)
	}()
	t.Cleanup(func() {
		listener.Close() // Serve may not have got to it yet
		r.server.Close()
		<-served
	})
	return r
}

func (r *recorder) all() []recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mails)
}

type recording struct {
	recorder *recorder
	conn     *smtp.Conn
	user     string
	now      recorded
}

func (s *recording) AuthMechanisms() []string { return []string{gosasl.Plain, gosasl.OAuthBearer} }

func (s *recording) Auth(mechanism string) (gosasl.Server, error) {
	check := func(user, password string) error {
		s.recorder.mu.Lock()
		defer s.recorder.mu.Unlock()
		if !s.recorder.accept(user, password) {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}
	if mechanism == gosasl.Plain {
		return gosasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
	}
	return gosasl.NewOAuthBearerServer(func(o gosasl.OAuthBearerOptions) *gosasl.OAuthBearerError {
		if check(o.Username, o.Token) != nil {
			return &gosasl.OAuthBearerError{Status: "invalid_token", Scope: "mail"}
		}
		return nil
	}), nil
}

func (s *recording) ask(stage, address string) error {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	if s.recorder.refuse == nil {
		return nil
	}
	return s.recorder.refuse(stage, address)
}

func (s *recording) Mail(from string, o *smtp.MailOptions) error {
	s.now.from, s.now.options = from, *o
	return s.ask("mail", from)
}

func (s *recording) Rcpt(to string, o *smtp.RcptOptions) error {
	if err := s.ask("rcpt", to); err != nil {
		return err
	}
	s.now.to, s.now.rcpt = append(s.now.to, to), append(s.now.rcpt, *o)
	return nil
}

func (s *recording) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := s.ask("data", s.now.from); err != nil {
		return err
	}
	s.now.data, s.now.user = data, s.user
	_, s.now.tls = s.conn.TLSConnectionState()
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	s.recorder.mails = append(s.recorder.mails, s.now)
	return nil
}

func (s *recording) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	err := s.Data(r)
	for _, to := range s.now.to {
		if own := s.ask("lmtp", to); err == nil && own != nil {
			status.SetStatus(to, own)
		} else {
			status.SetStatus(to, err)
		}
	}
	return nil
}

func (s *recording) Reset() {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	s.recorder.resets++
	s.now = recorded{}
}

func (s *recording) Logout() error { return nil }

func smtpError(code int, status ...int) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode(status), Message: "as the test wants"}
}

func TestSubmissionToGoSMTP(t *testing.T) {
	ca := lab.RunCA(t)
	r := startRecorder(t, serverTLS(t, ca), nil)
	c := carrier(t, submission(provider.STARTTLS, r.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}), nil)
	e := queue.Envelope{
		From: "you@try.test", Account: "test", EnvelopeID: "id+with=odd chars", Return: "HDRS", EightBit: true,
		To: []queue.Recipient{
			{Address: "a@else.test", Notify: "FAILURE,DELAY", Original: "rfc822;root+x@here"},
			{Address: `"quoted local"@else.test`, Notify: "NEVER"},
		},
	}
	text := "From: you@try.test\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n.\n..\nr\u00e9sum\u00e9\n.end"
	got := carry(t, c, e, text)
	wantVerdicts(t, got, queue.Delivered, queue.Delivered)
	if !got[0].Reports {
		t.Error("the server's DSN is not told of")
	}
	mails := r.all()
	if len(mails) != 1 {
		t.Fatalf("%d mails", len(mails))
	}
	m := mails[0]
	if want := strings.ReplaceAll(text, "\n", "\r\n") + "\r\n"; string(m.data) != want {
		t.Errorf("arrived as %q, want %q", m.data, want)
	}
	if !m.tls || m.user != "you@try.test" || m.from != e.From || !slices.Equal(m.to, []string{"a@else.test", `quoted local@else.test`}) {
		t.Errorf("arrived with %+v", m)
	}
	if m.options.Body != smtp.Body8BitMIME || m.options.Return != smtp.DSNReturnHeaders || m.options.EnvelopeID != e.EnvelopeID ||
		m.options.Size != int64(len(m.data)) || m.options.UTF8 {
		t.Errorf("MAIL with %+v", m.options)
	}
	if !slices.Equal(m.rcpt[0].Notify, []smtp.DSNNotify{smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed}) ||
		m.rcpt[0].OriginalRecipient != "root+x@here" || !slices.Equal(m.rcpt[1].Notify, []smtp.DSNNotify{smtp.DSNNotifyNever}) {
		t.Errorf("RCPT with %+v", m.rcpt)
	}
}

func TestPartialRefusal(t *testing.T) {
	ca := lab.RunCA(t)
	r := startRecorder(t, serverTLS(t, ca), nil)
	r.refuse = func(stage, address string) error {
		switch {
		case stage == "rcpt" && strings.HasPrefix(address, "no@"):
			return smtpError(550, 5, 1, 1)
		case stage == "rcpt" && strings.HasPrefix(address, "later@"):
			return smtpError(450, 4, 2, 0)
		}
		return nil
	}
	c := carrier(t, submission(provider.STARTTLS, r.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}), nil)
	got := carry(t, c, envelope("", "no@x.test", "yes@x.test", "later@x.test", "bad address@x.test", "also@x.test"), hello)
	wantVerdicts(t, got, queue.Refused, queue.Delivered, queue.Deferred, queue.Refused, queue.Delivered)
	if got[0].Status != "5.1.1" || got[2].Status != "4.2.0" || got[3].Status != "5.1.3" || !strings.Contains(got[0].Reply, "as the test wants") {
		t.Errorf("outcomes %+v", got)
	}
	if m := r.all(); len(m) != 1 || !slices.Equal(m[0].to, []string{"yes@x.test", "also@x.test"}) || m[0].from != "" {
		t.Errorf("arrived: %+v", m)
	}
	// Nobody left: DATA goes out with the recipients, and no message comes of it.
	got = carry(t, c, envelope("you@try.test", "no@x.test"), hello)
	wantVerdicts(t, got, queue.Refused)
	got = carry(t, c, envelope("you@try.test", "fine@x.test"), hello)
	wantVerdicts(t, got, queue.Delivered)
	if r.connections != 1 || len(r.all()) != 2 {
		t.Errorf("%d connections, %d mails", r.connections, len(r.all()))
	}
}

func TestManyRecipients(t *testing.T) {
	ca := lab.RunCA(t)
	r := startRecorder(t, serverTLS(t, ca), func(s *smtp.Server) { s.MaxRecipients = 30 })
	c := carrier(t, submission(provider.STARTTLS, r.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}), nil)
	e := queue.Envelope{From: "you@try.test"}
	for i := range 250 {
		e.To = append(e.To, queue.Recipient{Address: fmt.Sprintf("r%d@x.test", i)})
	}
	got := carry(t, c, e, hello)
	seen := map[string]int{}
	for _, m := range r.all() {
		for _, to := range m.to {
			seen[to]++
		}
	}
	for i, one := range got {
		if one.Verdict != queue.Delivered || seen[e.To[i].Address] != 1 {
			t.Fatalf("%s: %+v, arrived %d times", e.To[i].Address, one, seen[e.To[i].Address])
		}
	}
}

func TestRefusedTokenIsRenewedOnce(t *testing.T) {
	ca := lab.RunCA(t)
	sink := lab.RunSink(t, lab.SinkOptions{TLS: serverTLS(t, ca), Check: func(_, token string) bool { return token == "good-"+testToken }})
	address := &net.TCPAddr{Port: sink.Port}
	for _, test := range []struct {
		name   string
		source *tokens
		want   queue.Verdict
		asked  int
	}{
		{"renewed", &tokens{list: []string{"old-" + testToken, "good-" + testToken}}, queue.Delivered, 2},
		{"refused again", &tokens{list: []string{"old-" + testToken, "older-" + testToken, "good-" + testToken}}, queue.SignIn, 2},
		{"nothing new", &tokens{list: []string{"old-" + testToken}}, queue.SignIn, 2},
		{"no network", &tokens{err: io.ErrUnexpectedEOF}, queue.Deferred, 1},
		{"no grant", &tokens{err: fmt.Errorf("refresh: %w", ErrSignIn)}, queue.SignIn, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, mechanisms := range [][]string{{"XOAUTH2"}, {"OAUTHBEARER"}} {
				source := &tokens{list: slices.Clone(test.source.list), err: test.source.err}
				route := submission(provider.STARTTLS, address, ca.Client(), source)
				route.Mechanisms = mechanisms
				var trace bytes.Buffer
				c := carrier(t, route, func(o *Options) { o.Trace = &trace })
				got := carry(t, c, envelope("you@try.test", "a@x.test"), hello)
				wantVerdicts(t, got, test.want)
				if source.asked != test.asked {
					t.Errorf("%d tokens asked for", source.asked)
				}
				if test.source.err == nil && (len(source.refused) != 1 || source.refused[0] != "old-"+testToken) {
					t.Errorf("refused tokens told: %q", source.refused)
				}
				if test.name == "refused again" && !strings.Contains(got[0].Reply, "https://mail.google.com/") {
					t.Errorf("the challenge is not shown: %s", got[0].Reply)
				}
				for _, text := range []string{got[0].Reply, trace.String()} {
					if strings.Contains(text, testToken) || strings.Contains(text, "AUTH "+mechanisms[0]+" ") && !strings.Contains(text, secret.Redacted) {
						t.Errorf("shows a token: %s", text)
					}
				}
			}
		})
	}
}

func TestLongTokenTravelsAlone(t *testing.T) {
	ca := lab.RunCA(t)
	long := strings.Repeat(testToken, 60)
	sink := lab.RunSink(t, lab.SinkOptions{TLS: serverTLS(t, ca), Check: func(_, token string) bool { return token == long }})
	var trace bytes.Buffer
	c := carrier(t, submission(provider.STARTTLS, &net.TCPAddr{Port: sink.Port}, ca.Client(), &tokens{list: []string{long}}),
		func(o *Options) { o.Trace = &trace })
	wantVerdicts(t, carry(t, c, envelope("you@try.test", "a@x.test"), hello), queue.Delivered)
	if !strings.Contains(trace.String(), "C: AUTH OAUTHBEARER\nS: 334") {
		t.Errorf("an initial response over 512 octets went out:\n%s", trace.String())
	}
}

func TestAppPassword(t *testing.T) {
	ca := lab.RunCA(t)
	r := startRecorder(t, serverTLS(t, ca), func(s *smtp.Server) { s.AllowInsecureAuth = true })
	r.accept = func(user, password string) bool { return user == "you@try.test" && password == "abcd-efgh" }
	route := submission(provider.STARTTLS, r.listener.Addr(), ca.Client(), nil)
	route.Password = secret.New("abcd-efgh")
	wantVerdicts(t, carry(t, carrier(t, route, nil), envelope("you@try.test", "a@x.test"), hello), queue.Delivered)

	route.Password = secret.New("wrong-one")
	wantVerdicts(t, carry(t, carrier(t, route, nil), envelope("you@try.test", "a@x.test"), hello), queue.SignIn)

	// Without TLS no password leaves, on loopback neither.
	route.Server.Security = provider.Plain
	r.accept = func(string, string) bool { t.Error("a password came in plain text"); return false }
	wantVerdicts(t, carry(t, carrier(t, route, nil), envelope("you@try.test", "a@x.test"), hello), queue.Deferred)

	// A token is no password, even when the configuration says PLAIN.
	route = submission(provider.STARTTLS, r.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}})
	route.Mechanisms = []string{"PLAIN", "LOGIN"}
	if _, err := carrier(t, route, nil).Carry(t.Context(), envelope("", "a@x.test"), strings.NewReader(hello)); err == nil {
		t.Error("a token by PLAIN is accepted")
	}
}

func TestUntrustedCertificate(t *testing.T) {
	ca, other := lab.RunCA(t), lab.RunCA(t)
	wrong, err := ca.IssueOnly("elsewhere.test")
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]*tls.Config{"authority": serverTLS(t, other), "name": {Certificates: []tls.Certificate{wrong.TLS}},
		"version": {Certificates: []tls.Certificate{wrong.TLS}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}} {
		r := startRecorder(t, config, nil)
		source := &tokens{list: []string{testToken}}
		got := carry(t, carrier(t, submission(provider.STARTTLS, r.listener.Addr(), ca.Client(), source), nil), envelope("", "a@x.test"), hello)
		wantVerdicts(t, got, queue.Deferred)
		if len(r.all()) != 0 || !strings.HasPrefix(got[0].Status, "4.7.") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestIdleConnectionIsReplaced(t *testing.T) {
	ca := lab.RunCA(t)
	r := startRecorder(t, serverTLS(t, ca), nil)
	c := carrier(t, submission(provider.STARTTLS, r.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}), nil)
	wantVerdicts(t, carry(t, c, envelope("", "a@x.test"), hello), queue.Delivered)
	r.mu.Lock()
	before := r.connections
	r.mu.Unlock()
	for _, conn := range r.conns {
		conn.Close() // as an idle time-out of the server does
	}
	wantVerdicts(t, carry(t, c, envelope("", "b@x.test"), hello), queue.Delivered)
	if before != 1 || r.connections != 2 || len(r.all()) != 2 {
		t.Errorf("%d, then %d connections, %d mails", before, r.connections, len(r.all()))
	}
}

func TestConnectionsAreBoundedAndReused(t *testing.T) {
	ca := lab.RunCA(t)
	r := startRecorder(t, serverTLS(t, ca), nil)
	c := carrier(t, submission(provider.STARTTLS, r.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}),
		func(o *Options) { o.Connections, o.Messages = 3, 20 })
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() { carry(t, c, envelope("you@try.test", fmt.Sprintf("r%d@x.test", i)), hello) })
	}
	wait.Wait()
	if n := len(r.all()); n != 200 {
		t.Errorf("%d of 200 arrived", n)
	}
	if r.connections < 10 || r.connections > 12 { // 200 / 20, and up to one more for each of three
		t.Errorf("%d connections", r.connections)
	}
}

func TestIdleTimeout(t *testing.T) {
	ca := lab.RunCA(t)
	f := startFaulty(t, &faulty{config: serverTLS(t, ca), pipelining: true})
	c := carrier(t, submission(provider.STARTTLS, f.listener.Addr(), ca.Client(), &tokens{list: []string{testToken}}),
		func(o *Options) { o.Idle = 20 * time.Millisecond })
	wantVerdicts(t, carry(t, c, envelope("", "a@x.test"), hello), queue.Delivered)
	f.listener.Close()
	f.wait.Wait() // the server's side ends only when the client says goodbye
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if len(c.pool.places) != 0 {
		t.Errorf("places left: %v", c.pool.places)
	}
}

func TestLMTP(t *testing.T) {
	r := startRecorder(t, nil, func(s *smtp.Server) { s.LMTP = true })
	r.refuse = func(stage, address string) error {
		switch stage + " " + address {
		case "rcpt nobody@here":
			return smtpError(550, 5, 1, 1)
		case "lmtp full@here":
			return smtpError(452, 4, 2, 2)
		case "lmtp strict@here":
			return smtpError(554, 5, 7, 1)
		}
		return nil
	}
	c := carrier(t, Route{Way: LMTP, Socket: r.listener.Addr().String()}, nil)
	got := carry(t, c, envelope("", "root@here", "nobody@here", "full@here", "strict@here", "you@try.test"), hello)
	wantVerdicts(t, got, queue.Delivered, queue.Refused, queue.Deferred, queue.Refused, queue.Delivered)
	if m := r.all(); len(m) != 1 || !slices.Equal(m[0].to, []string{"root@here", "full@here", "strict@here", "you@try.test"}) {
		t.Errorf("arrived: %+v", m)
	}
}
