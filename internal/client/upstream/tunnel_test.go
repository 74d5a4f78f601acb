package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTunnelDialogues(t *testing.T) {
	for _, s := range loadScripts(t, "testdata/tunnel/*.txt") {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := s.perform(t)
			if r.play != nil {
				t.Errorf("the stage: %v\nclient: %v\n%s", r.play, r.err, r.trace)
			}
			judge(t, s, r)
		})
	}
}

func TestTunnelRefusal(t *testing.T) {
	tests := []struct {
		protocol  Protocol
		temporary bool
		text      string
		want      string
	}{
		{IMAP, false, "token refused", "* BYE [AUTHENTICATIONFAILED] token refused\r\n"},
		{IMAP, true, "no network", "* BYE [UNAVAILABLE] no network\r\n"},
		{POP3, false, "x\r\n+OK y", "-ERR [AUTH] x  +OK y\r\n"},
		{POP3, true, "x", "-ERR [SYS/TEMP] x\r\n"},
		{SMTP, false, "x\x1b\u202eé", "554 5.7.8 x???\r\n"},
		{SMTP, true, "x", "421 4.7.0 x\r\n"},
		{IMAP, true, strings.Repeat("x", 2000), "* BYE [UNAVAILABLE] " + strings.Repeat("x", 400) + "\r\n"},
	}
	for _, tt := range tests {
		if got := TunnelRefusal(tt.protocol, tt.temporary, tt.text); got != tt.want {
			t.Errorf("TunnelRefusal(%s, %v, %q) = %q", tt.protocol, tt.temporary, tt.text, got)
		}
	}
}

// pipe is a TCP connection on loopback with both its ends.
func pipe(t *testing.T) (here, there *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); other.Close() })
	return conn.(*net.TCPConn), other.(*net.TCPConn)
}

// Large data goes both ways at once, unchanged, and each end's last bytes arrive.
func TestTunnelCarriesEverything(t *testing.T) {
	here, there := pipe(t)
	up, down := bytes.Repeat([]byte("up and "), 1<<19), bytes.Repeat([]byte("down\x00\r\n"), 1<<19)
	var out bytes.Buffer
	tun := &tunnel{server: here, in: bytes.NewReader(up), out: &out, hall: &imapHall{}, drain: time.Minute}
	got := make(chan []byte, 1)
	go func() {
		written := make(chan struct{})
		go func() { defer close(written); _, _ = there.Write(down) }()
		data, _ := io.ReadAll(there)
		<-written
		there.Close()
		got <- data
	}()
	if err := tun.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if data := <-got; !bytes.Equal(data, up) || !bytes.Equal(out.Bytes(), down) {
		t.Errorf("%d of %d up, %d of %d down", len(data), len(up), out.Len(), len(down))
	}
}

// A server that does not close after the client's end is left after the drain.
func TestTunnelLeavesASilentServer(t *testing.T) {
	here, _ := pipe(t)
	tun := &tunnel{server: here, in: strings.NewReader(""), out: io.Discard, hall: &imapHall{}, drain: 20 * time.Millisecond}
	if err := tun.run(t.Context()); err != nil {
		t.Error(err)
	}
}

// The server's end interrupts a client that says nothing, where that can be done.
func TestTunnelInterruptsTheClient(t *testing.T) {
	here, there := pipe(t)
	in, quiet := pipe(t)
	there.Close()
	tun := &tunnel{server: here, in: in, out: io.Discard, hall: &imapHall{}, drain: time.Minute}
	if err := tun.run(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client's pipe: %v", err)
	}
	quiet.Close()
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestTunnelClientGone(t *testing.T) {
	here, there := pipe(t)
	in, _ := pipe(t)
	if _, err := there.Write([]byte("* 1 EXISTS\r\n")); err != nil {
		t.Fatal(err)
	}
	tun := &tunnel{server: here, in: in, out: brokenWriter{}, hall: &imapHall{}, drain: time.Minute}
	if err := tun.run(t.Context()); err == nil || !strings.Contains(err.Error(), "write to the client") {
		t.Errorf("got %v", err)
	}
	if _, err := io.ReadAll(there); err != nil {
		t.Errorf("the server's connection is not closed: %v", err)
	}
}

// What was read too far comes first after Handover.
func TestHandoverKeepsBufferedBytes(t *testing.T) {
	here, there := pipe(t)
	if _, err := there.Write([]byte("line\r\nrest of it")); err != nil {
		t.Fatal(err)
	}
	c := &Conn{trace: &trace{}, timeout: time.Minute}
	c.use(here, here)
	c.step()
	if line, err := c.readLine(newQuota()); err != nil || line != "line" {
		t.Fatalf("%q, %v", line, err)
	}
	conn := c.Handover()
	if _, err := there.Write([]byte(", and more")); err != nil {
		t.Fatal(err)
	}
	there.Close()
	all, err := io.ReadAll(conn)
	if err != nil || string(all) != "rest of it, and more" {
		t.Errorf("%q, %v", all, err)
	}
	if _, ok := conn.(interface{ CloseWrite() error }); !ok {
		t.Error("the connection has lost its half-close")
	}
}

// Commands sent together, as a client that pipelines does.
func TestTunnelPassword(t *testing.T) {
	here, there := pipe(t)
	var out bytes.Buffer
	tun := &tunnel{server: here, in: strings.NewReader("USER u\r\nPASS p\r\nSTAT\r\nQUIT\r\n"), out: &out, hall: &pop3Hall{}, drain: time.Minute}
	got := make(chan string, 1)
	go func() {
		data, _ := io.ReadAll(there)
		_, _ = there.Write([]byte("+OK 0 0\r\n+OK bye\r\n"))
		there.Close()
		got <- string(data)
	}()
	if err := tun.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if data := <-got; data != "STAT\r\nQUIT\r\n" {
		t.Errorf("the server got %q", data)
	}
	if out.String() != "+OK\r\n+OK signed in\r\n+OK 0 0\r\n+OK bye\r\n" {
		t.Errorf("the client got %q", out.String())
	}
}
