package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A script is one dialogue file: settings, a line "--", and the steps of a server
// that knows its lines and expects the client to know its own.
//
//	S: text        the server says a line            S-: text  without its end
//	S64: a|b       the server says a and base64 of b
//	C: text        the client must say this line     C*: text  a line that begins so
//	C64: a|b       the client must say a and base64 of b
//	TLS            the server does a TLS handshake
//	READ           the client must say something, be it what it may
//	ENDED, RESET   the client must have ended; the server cuts the connection
//	CLOSE, STALL   the server closes, or is silent until the client goes
//	FLOOD n        n bytes without a line end        LINES n text  n lines
//	CANCEL         the client's context ends
//	I: text, IEOF  the tunnel's client says a line, ends
//	O: text, OEOF  the tunnel's client must read this line, the end
type script struct {
	name     string
	settings map[string][]string
	steps    []string
}

func (s script) get(key string) string { return strings.Join(s.settings[key], "\n") }

func loadScript(t *testing.T, path string) script {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := script{name: strings.TrimSuffix(filepath.Base(path), ".txt"), settings: map[string][]string{}}
	head, body, ok := strings.Cut(string(text), "\n--\n")
	if !ok {
		t.Fatalf("%s has no --", path)
	}
	for line := range strings.Lines(head) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		switch key {
		case "protocol", "security", "user", "token", "mechanisms", "do", "error", "is", "challenge", "reply", "trace", "untraced", "offered", "timeout", "host", "out":
		default:
			t.Fatalf("%s: no such setting: %q", path, line)
		}
		if !ok {
			t.Fatalf("%s: %q has no value", path, line)
		}
		s.settings[key] = append(s.settings[key], value)
	}
	for line := range strings.Lines(body) {
		if line = strings.TrimRight(line, "\n"); line != "" && !strings.HasPrefix(line, "#") {
			s.steps = append(s.steps, line)
		}
	}
	return s
}

func loadScripts(t *testing.T, pattern string) []script {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no dialogues at %s: %v", pattern, err)
	}
	var all []script
	for _, path := range paths {
		all = append(all, loadScript(t, path))
	}
	return all
}

// A stage is where a script is played: one server, one connection.
type stage struct {
	listener net.Listener
	cancel   context.CancelFunc // of the client's context
	config   *tls.Config
	raw      net.Conn
	conn     net.Conn
	in       *bufio.Reader
	clientIn *io.PipeWriter // the tunnel's client, if there is one
	client   *bufio.Reader
	stalled  chan struct{} // closed at STALL
}

// play performs the steps and returns the first deviation.
func (s *stage) play(steps []string) error {
	raw, err := s.listener.Accept()
	if err != nil {
		return fmt.Errorf("nobody connected: %w", err)
	}
	defer raw.Close()
	// A client that hangs must fail the test and not the test run.
	_ = raw.SetDeadline(time.Now().Add(patience))
	s.raw, s.conn, s.in = raw, raw, bufio.NewReader(raw)
	for i, step := range steps {
		end, err := s.perform(step)
		if err != nil {
			return fmt.Errorf("step %d, %q: %w", i+1, step, err)
		}
		if end {
			return nil
		}
	}
	s.untilGone()
	return nil
}

func (s *stage) perform(step string) (end bool, err error) {
	verb, text, _ := strings.Cut(step, " ")
	text = unescapeStep(text)
	switch verb {
	case "S:":
		err = s.say(text + "\r\n")
	case "S-:":
		err = s.say(text)
	case "S64:":
		err = s.say(encodeStep(text) + "\r\n")
	case "C:":
		err = expectLine(s.in, text)
	case "C64:":
		err = expectLine(s.in, encodeStep(text))
	case "C*:":
		var line string
		if line, err = readStep(s.in); err == nil && !strings.HasPrefix(line, text) {
			err = fmt.Errorf("the client said %q", line)
		}
	case "TLS":
		conn := tls.Server(s.raw, s.config)
		if err = conn.Handshake(); err == nil {
			s.conn, s.in = conn, bufio.NewReader(conn)
		} else if text == "fails" {
			return true, nil
		}
	case "READ":
		_, err = s.in.ReadByte()
	case "ENDED":
		if line, readErr := s.in.ReadString('\n'); readErr != io.EOF {
			err = fmt.Errorf("the client said %q, %v", line, readErr)
		}
	case "RESET":
		_ = s.raw.(*net.TCPConn).SetLinger(0)
		return true, s.raw.Close()
	case "CLOSE":
		return true, s.conn.Close()
	case "STALL":
		close(s.stalled)
		s.untilGone()
		return true, nil
	case "CANCEL":
		s.cancel()
	case "FLOOD":
		s.flood(text)
	case "LINES":
		count, line, _ := strings.Cut(text, " ")
		s.lines(count, line)
	case "I:":
		_, err = io.WriteString(s.clientIn, text+"\r\n")
	case "IEOF":
		err = s.clientIn.Close()
	case "O:":
		err = expectLine(s.client, text)
	case "OEOF":
		if line, readErr := s.client.ReadString('\n'); readErr != io.EOF {
			err = fmt.Errorf("the tunnel said %q, %v", line, readErr)
		}
	default:
		err = fmt.Errorf("no such verb")
	}
	return false, err
}

func (s *stage) say(text string) error {
	_, err := io.WriteString(s.conn, text)
	return err
}

// flood ends when the client has had enough.
func (s *stage) flood(count string) {
	var n int
	_, _ = fmt.Sscan(count, &n)
	block := bytes.Repeat([]byte{'x'}, 64<<10)
	for ; n > 0; n -= len(block) {
		if _, err := s.conn.Write(block); err != nil {
			return
		}
	}
}

func (s *stage) lines(count, line string) {
	var n int
	_, _ = fmt.Sscan(count, &n)
	for range n {
		if s.say(line+"\r\n") != nil {
			return
		}
	}
}

func (s *stage) untilGone() { _, _ = io.Copy(io.Discard, s.in) }

func readStep(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(line, "\r\n") {
		return "", fmt.Errorf("line without CRLF: %q", line)
	}
	return strings.TrimSuffix(line, "\r\n"), nil
}

func expectLine(in *bufio.Reader, want string) error {
	line, err := readStep(in)
	if err == nil && line != want {
		err = fmt.Errorf("got %q", line)
	}
	return err
}

func unescapeStep(text string) string {
	return strings.NewReplacer(`\x01`, "\x01", `\x1b`, "\x1b", `\x00`, "\x00", `\r`, "\r", `\n`, "\n").Replace(text)
}

func encodeStep(text string) string {
	prefix, payload, _ := strings.Cut(text, "|")
	return prefix + base64.StdEncoding.EncodeToString([]byte(payload))
}

// An authority is a CA of this test run with one server certificate for 127.0.0.1 and
// localhost.
type authority struct {
	roots  *x509.CertPool
	server *tls.Config
}

var testAuthority = sync.OnceValue(func() authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		DNSNames: []string{"localhost", "mail.example.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		panic(err)
	}
	parent, _ := x509.ParseCertificate(root)
	cert, err := x509.CreateCertificate(rand.Reader, leaf, parent, key.Public(), key)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parent)
	return authority{roots, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}}
})

// patience is how long a machine that does many other things may take: a guard against
// waiting for ever.
const patience = 5 * time.Minute

const testToken = "c4n4ry-token-for-tests-1234567890"

// A result is what the client came to.
type result struct {
	conn  *Conn
	trace string
	err   error
	play  error
}

// perform runs the script's server and does what its "do" says against it.
func (s script) perform(t *testing.T) result {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	inReader, inWriter := io.Pipe()
	outReader, outWriter := io.Pipe()
	st := &stage{listener: listener, cancel: cancel, config: testAuthority().server, clientIn: inWriter, client: bufio.NewReader(outReader), stalled: make(chan struct{})}
	played := make(chan error, 1)
	go func() {
		played <- st.play(s.steps)
		_ = outReader.Close() // a tunnel must not wait for a client that has left the stage
	}()

	var trace bytes.Buffer
	r := result{}
	r.conn, r.err = s.act(ctx, listener, st.stalled, &trace, inReader, outWriter)
	if r.conn != nil {
		r.conn.raw.Close()
	}
	_ = outWriter.Close()
	_ = inReader.Close()
	_ = listener.Close()
	r.play = <-played
	r.trace = trace.String()
	return r
}

func (s script) act(ctx context.Context, listener net.Listener, stalled <-chan struct{}, trace io.Writer, in io.Reader, out io.Writer) (*Conn, error) {
	opts := Options{TLS: &tls.Config{RootCAs: testAuthority().roots}, Trace: trace, Timeout: patience}
	server := provider.MailServer{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, Security: provider.Security(s.get("security"))}
	opts.Network = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, listener.Addr().String())
	}
	if text := s.get("timeout"); text != "" {
		opts.Timeout, _ = time.ParseDuration(text)
		opts.Network = stoppedClocks(listener.Addr().String(), stalled)
	}
	if host := s.get("host"); host != "" {
		server.Host = host
	}
	conn, err := Dial(ctx, Protocol(s.get("protocol")), server, opts)
	if err != nil {
		return nil, err
	}
	login := Login{User: "alice@example.test", Token: secret.New(testToken)}
	if user := s.get("user"); user != "" {
		login.User = user
	}
	if token := s.get("token"); token != "" {
		login.Token = secret.New(longToken(token))
	}
	if list := s.get("mechanisms"); list != "" {
		login.Mechanisms = strings.Fields(list)
	}
	for deed := range strings.FieldsSeq(s.get("do")) {
		switch deed {
		case "auth":
			err = conn.Authenticate(ctx, login)
		case "check":
			err = conn.Check(ctx)
		case "quit":
			err = conn.Quit(ctx)
		case "tunnel":
			err = Tunnel(ctx, conn, in, out)
		default:
			err = fmt.Errorf("no such deed: %s", deed)
		}
		if err != nil {
			return conn, err
		}
	}
	return conn, nil
}

// stoppedClocks dials for a client whose time-outs count from where its server stalls.
// They are short; a machine that stands still before that must not look like the stall.
func stoppedClocks(address string, stalled <-chan struct{}) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(context.WithoutCancel(ctx), network, address)
		if err != nil {
			return nil, err
		}
		conn := &stoppedClock{Conn: raw, gone: make(chan struct{})}
		go func() {
			select {
			case <-stalled:
				conn.start()
			case <-conn.gone:
			}
		}()
		return conn, nil
	}
}

type stoppedClock struct {
	net.Conn
	gone   chan struct{}
	closed sync.Once

	mu      sync.Mutex
	started bool
	pause   time.Duration // asked for and still to be set
}

func (c *stoppedClock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = true
	if c.pause != 0 {
		_ = c.Conn.SetDeadline(time.Now().Add(c.pause))
	}
}

func (c *stoppedClock) SetDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started {
		return c.Conn.SetDeadline(at)
	}
	if c.pause = 0; !at.IsZero() {
		c.pause = max(time.Until(at), 1)
	}
	return nil
}

func (c *stoppedClock) Close() error {
	c.closed.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// longToken makes "x*300" three hundred x.
func longToken(text string) string {
	letter, count, ok := strings.Cut(text, "*")
	if !ok {
		return text
	}
	var n int
	_, _ = fmt.Sscan(count, &n)
	return strings.Repeat(letter, n)
}
