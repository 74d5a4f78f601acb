package mailauth

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
)

// others is a fake Dovecot authentication server: PLAIN with some passwords, and GSSAPI in
// three steps.
type others struct {
	t      *testing.T
	place  string
	mu     sync.Mutex
	heard  []string
	closed chan struct{} // a value for each connection that ended
}

const othersGreeting = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tGSSAPI\tmutual-auth\nMECH\tANONYMOUS\tanonymous\nMECH\tEXTERNAL\nMECH\tSCRAM-SHA-256-PLUS\tmutual-auth\n" +
	"MECH\tevil\x01\nMECH\tCRAM-MD5\tdictionary\tactive\tnonsense\nSPID\t1\nCUID\t2\nCOOKIE\t00\nDONE\n"

func startOthers(t *testing.T) *others {
	t.Helper()
	o := &others{t: t, place: filepath.Join(t.TempDir(), "auth"), closed: make(chan struct{}, 100)}
	listener, err := net.Listen("unix", o.place)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				o.talk(conn)
				conn.Close()
				o.closed <- struct{}{}
			})
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
	return o
}

func (o *others) talk(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(bound))
	_, _ = io.WriteString(conn, othersGreeting)
	lines := bufio.NewScanner(conn)
	step := 0
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "VERSION") || strings.HasPrefix(line, "CPID") {
			continue
		}
		o.mu.Lock()
		o.heard = append(o.heard, line)
		o.mu.Unlock()
		answer := ""
		switch _, resp, _ := strings.Cut(line, "\tresp="); {
		case strings.Contains(line, "\tPLAIN\t"):
			message, _ := base64.StdEncoding.DecodeString(resp)
			password := string(message[strings.LastIndexByte(string(message), 0)+1:])
			switch password {
			case "right":
				answer = "OK\t1\tuser=Carol@Example.org"
			case "later":
				answer = "FAIL\t1\tuser=x\tcode=temp_fail"
			case "away":
				return
			case "nameless":
				answer = "OK\t1"
			case "another":
				answer = "OK\t2\tuser=x"
			case "long":
				answer = "OK\t1\tuser=" + strings.Repeat("x", maxLine)
			case "control":
				answer = "OK\t1\tuser=a\x01nb"
			default:
				answer = "FAIL\t1\tuser=x\treason=it was the third letter"
			}
		default:
			answer = []string{"CONT\t1\t" + b64("challenge"), "MECH\tLATE\nCONT\t1\t", "OK\t1\tuser=carol"}[step%3]
			if step++; strings.HasSuffix(line, b64("wrong")) {
				answer = "FAIL\t1"
			}
		}
		if _, err := io.WriteString(conn, answer+"\n"); err != nil {
			return
		}
	}
}

func (o *others) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.heard)
}

// beside is a SASL server of ours before them.
func (o *others) beside(counts Throttle) SASLOptions {
	// The clock stands: a list that grows old would be asked for once more, and that
	// connection's end be taken for another's.
	began := time.Now()
	up := NewUpstream(UpstreamOptions{Address: o.place, Ours: credential.HasForm, Log: quietLog(), Now: func() time.Time { return began }})
	up.greet = bound
	s := SASLOptions{Door: Guard(up.Beside(&door{}), counts), Upstream: up, Throttle: counts}
	return s
}

func TestUpstreamGreeting(t *testing.T) {
	o := startOthers(t)
	up := NewUpstream(UpstreamOptions{Address: o.place, Log: quietLog(), Now: time.Now})
	up.greet = bound
	got := up.mechanisms(t.Context(), []string{"PLAIN", "LOGIN"})
	if want := []string{"GSSAPI\tmutual-auth", "CRAM-MD5\tdictionary\tactive"}; !slices.Equal(got, want) {
		t.Errorf("offered %q, want %q", got, want)
	}
	// Away: what was there is offered on, for the life of an smtpd is long.
	up.o.Address, up.heard = filepath.Join(t.TempDir(), "none"), time.Unix(1, 0)
	if again := up.mechanisms(t.Context(), []string{"PLAIN"}); !slices.Equal(again, got) {
		t.Errorf("while it is away %q are offered", again)
	}
}

// Several steps, two sign-ins at once on one connection, and one that fails.
func TestUpstreamSteps(t *testing.T) {
	o, counts := startOthers(t), &scale{}
	dial, end := start(t, o.beside(counts))
	m := dial(2)
	m.send(begin(1, "GSSAPI", "token"))
	m.expect("CONT\t1\t" + b64("challenge"))
	m.send(begin(2, "CRAM-MD5"))
	m.expect("CONT\t2\t" + b64("challenge"))
	m.send("CONT\t1\t" + b64("more"))
	m.expect("CONT\t1\t")
	m.send("CONT\t1\t")
	m.expect("OK\t1\tuser=carol")
	m.send("CONT\t2\t" + b64("wrong"))
	m.expect("FAIL\t2\treason=Invalid credentials")
	heard := o.lines()
	if want := "AUTH\t1\tGSSAPI\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.9\tsecured\tresp=" + b64("token"); heard[0] != want {
		t.Errorf("said %q\nwant %q", heard[0], want)
	}
	if slices.ContainsFunc(heard[:2], func(s string) bool { return strings.HasSuffix(s, "secured\tresp=") }) {
		t.Error("no initial response became an empty one")
	}
	end()
	if fmt.Sprint(counts.told) != "[true false]" {
		t.Errorf("the throttle was told %v", counts.told)
	}
}

// What has the form of a secret of ours never leaves this server, however it was typed, by
// whatever mechanism, right or wrong.
func TestOwnSecretsAreNeverForwarded(t *testing.T) {
	o := startOthers(t)
	dial, _ := start(t, o.beside(&scale{}))
	const app = "k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p"
	for _, text := range []string{app, strings.ToUpper(app), strings.ReplaceAll(app, "-", ""), " " + strings.ReplaceAll(app, "-", " "), strings.ReplaceAll(app, "0", "o"),
		"llat_" + strings.Repeat("A", 43), "llrt_x", "Llat_right", " llat_right"} {
		if !credential.HasForm(secret.New(text)) {
			t.Errorf("%.6s… is not known as ours", text)
		}
		m := dial(0)
		m.send(begin(1, "PLAIN", "\x00ann@example.org\x00"+text))
		m.expect("FAIL\t1\tuser=ann@example.org\treason=Invalid credentials")
		m.send(begin(2, "LOGIN", "ann@example.org"))
		m.expect("CONT\t2\t" + b64("Password:"))
		m.send("CONT\t2\t" + b64(text))
		m.expect("FAIL\t2\tuser=ann@example.org\treason=Invalid credentials")
	}
	m := dial(0)
	for i, token := range []string{"llat_wrong", "eyJhbGciOi.of.elsewhere"} {
		m.send(begin(i+1, "XOAUTH2", "user=ann@example.org\x01auth=Bearer "+token+"\x01\x01"))
		m.line()
		m.send(fmt.Sprintf("CONT\t%d\t", i+1))
		m.expect(fmt.Sprintf("FAIL\t%d\tuser=ann@example.org\treason=Invalid credentials", i+1))
	}
	if heard := o.lines(); len(heard) > 0 {
		t.Errorf("the other server was asked: %q", heard)
	}
}

// A password of theirs: yes, no, and in every other case "later", which is silence.
func TestUpstreamPasswords(t *testing.T) {
	o, counts := startOthers(t), &scale{}
	dial, end := start(t, o.beside(counts))
	for _, c := range []struct{ password, want string }{
		{"right", "OK\t1\tuser=carol@example.org"},
		{"wrong", "FAIL\t1\tuser=carol@example.org\treason=Invalid credentials"},
		{"later", ""}, {"away", ""}, {"nameless", ""}, {"another", ""}, {"long", ""}, {"control", ""},
	} {
		m := dial(0)
		m.send(begin(1, "PLAIN", "\x00carol@example.org\x00"+c.password))
		if c.want == "" {
			m.gone()
		} else {
			m.expect(c.want)
		}
	}
	end()
	if fmt.Sprint(counts.told) != "[true false]" || counts.released != 6 {
		t.Errorf("the throttle was told %v, %d released", counts.told, counts.released)
	}
}

// Without TLS nothing is handed on, and while the other server is away nobody hears no.
func TestUpstreamAway(t *testing.T) {
	o := startOthers(t)
	options := o.beside(&scale{})
	dial, _ := start(t, options)
	m := dial(0)
	m.send(strings.TrimSuffix(begin(1, "GSSAPI"), "\tsecured"))
	m.expect("FAIL\t1\treason=Invalid credentials")
	if len(o.lines()) > 0 {
		t.Error("asked without TLS")
	}
	options.Upstream.o.Address = filepath.Join(t.TempDir(), "none")
	for _, line := range []string{begin(1, "GSSAPI", "token"), begin(1, "PLAIN", "\x00carol@example.org\x00right")} {
		m := dial(0)
		m.send(line)
		m.gone()
	}
}

// A client that hangs up in the middle leaves nothing open.
func TestUpstreamForgotten(t *testing.T) {
	o := startOthers(t)
	dial, _ := start(t, o.beside(&scale{}))
	m := dial(0)
	<-o.closed // the look at its mechanisms
	m.send(begin(1, "GSSAPI", "token"))
	m.expect("CONT\t1\t" + b64("challenge"))
	m.conn.Close()
	select {
	case <-o.closed:
	case <-time.After(bound):
		t.Error("the connection for a client that is gone stays open")
	}
}

func TestGuardAmongOthers(t *testing.T) {
	s := &scale{}
	g := GuardAmongOthers(&door{}, s)
	ask := func(mechanism, text string) {
		p := credential.Presented{User: "carol@example.org", Mechanism: mechanism, Secret: secret.New(text)}
		if mechanism == "PLAIN" {
			_, _ = g.Password(t.Context(), p)
		} else {
			_, _ = g.Token(t.Context(), p)
		}
	}
	ask("PLAIN", "a password of LDAP")
	ask("PLAIN", "k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p")
	ask("OAUTHBEARER", "a token of elsewhere")
	if fmt.Sprint(s.told) != "[false false]" || s.released != 1 {
		t.Errorf("told %v, %d released", s.told, s.released)
	}
}

// FuzzUpstream feeds what another authentication server says.
func FuzzUpstream(f *testing.F) {
	f.Add([]byte(othersGreeting), []byte("OK\t1\tuser=carol\n"))
	f.Add([]byte("VERSION\t2\t0\nDONE\n"), []byte("FAIL\t1\ttemp\tcode=temp_fail\n"))
	f.Add([]byte("DONE\n"), []byte("MECH\tX\nCONT\t1\tYQ==\n"))
	f.Add([]byte("VERSION\t1\t2\nMECH\n"), []byte("OK\t1\tuser=\x01\nOK\t2\n"))
	f.Fuzz(func(t *testing.T, greeting, answer []byte) {
		mechanisms, err := readGreeting(bufio.NewReaderSize(strings.NewReader(string(greeting)), maxLine))
		if len(mechanisms) > maxMechanisms || err != nil && mechanisms != nil {
			t.Fatalf("%d mechanisms, %v", len(mechanisms), err)
		}
		for _, line := range mechanisms {
			if strings.ContainsAny(line, "\r\n\x00\x01 ") || strings.HasPrefix(line, "ANONYMOUS") || len(line) > 200 {
				t.Fatalf("would offer %q", line)
			}
		}
		a, err := readAnswer(bufio.NewReaderSize(strings.NewReader(string(answer)), maxLine))
		if err == nil && a.verb == "OK" && (a.user == "" || strings.ContainsAny(a.user, "\t\r\n\x00")) {
			t.Fatalf("takes the name %q", a.user)
		}
		if err == nil && a.verb == "CONT" && a.data == nil {
			t.Fatal("an empty challenge became none")
		}
	})
}

var _ Door = (*besideDoor)(nil)
