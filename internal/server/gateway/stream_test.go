package gateway

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// A WebSocket passes both ways, and ends with the session; while nobody can be asked about
// that, with the token.
func TestWebSocket(t *testing.T) {
	webSocketEnds(t, "a revocation", func(b *bench) { b.store.revokeAll(); b.later(time.Second) })
	webSocketEnds(t, "a token that ran out while the database was away", func(b *bench) {
		defer b.store.lock()()
		b.store.away = true
		b.later(b.gate.o.TokenLife)
	})
}

func webSocketEnds(t *testing.T, what string, end func(*bench)) {
	t.Helper()
	b := newBench(t, func(o *Options) { o.Recheck = 10 * time.Millisecond })
	b.answer = func(w http.ResponseWriter, r *http.Request) {
		if user, _, ok := r.BasicAuth(); !ok || user != "ann@try.test" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = buf.Flush()
		for {
			line, err := buf.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("echo " + line))
		}
	}
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	conn, err := net.Dial("tcp", b.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: %s\r\nCookie: letterlock-mail=%s\r\n\r\n",
		b.front.Listener.Addr(), b.gate.o.PublicURL, s.jar["letterlock-mail"])
	lines := bufio.NewReader(conn)
	resp, err := http.ReadResponse(lines, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := lines.ReadString('\n'); err != nil || line != "echo hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	end(b)
	if line, err := lines.ReadString('\n'); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && err == nil {
		t.Errorf("after %s: %q, %v", what, line, err)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Errorf("the connection outlives %s", what)
	}
}

// A large upload streams: the upstream reads its beginning while the end is not sent yet.
// One that is too large is refused.
func TestUpload(t *testing.T) {
	b := newBench(t, func(o *Options) { o.MaxBody = 8 << 20 })
	begun, sum := make(chan struct{}), make(chan int64, 1)
	b.answer = func(_ http.ResponseWriter, r *http.Request) {
		one := make([]byte, 1)
		if _, err := io.ReadFull(r.Body, one); err != nil {
			return
		}
		close(begun)
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			sum <- n + 1
		}
	}
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	read, write := io.Pipe()
	go func() {
		_, _ = write.Write(bytes.Repeat([]byte("x"), 64<<10))
		<-begun
		for range 7 << 4 {
			_, _ = write.Write(bytes.Repeat([]byte("x"), 64<<10))
		}
		write.Close()
	}()
	r := s.request(http.MethodPost, "/?_task=mail&_action=upload", "", "Content-Type", "application/octet-stream")
	r.Body, r.ContentLength = read, -1
	if resp := s.do(r); resp.StatusCode != http.StatusOK {
		t.Fatalf("%d", resp.StatusCode)
	}
	if n := <-sum; n != 64<<10*(1+7<<4) {
		t.Errorf("%d bytes came", n)
	}
	b.answer = func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	r = s.request(http.MethodPost, "/?_task=mail&_action=upload", "", "Content-Type", "application/octet-stream")
	r.Body, r.ContentLength = io.NopCloser(io.LimitReader(rand.Reader, 9<<20)), 9<<20
	if resp, err := http.DefaultTransport.RoundTrip(withCookie(r, s)); err == nil && resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", resp.StatusCode)
	}
}

func withCookie(r *http.Request, s *surfer) *http.Request {
	r.Header.Set("Cookie", "letterlock-mail="+s.jar["letterlock-mail"])
	return r
}

// Who announces a body and sends none holds no connection, whoever they are and whatever
// they were answered: a connection costs the sender nothing.
func TestSilentBody(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Stall = 100 * time.Millisecond })
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	own := "Cookie: letterlock-mail=" + s.jar["letterlock-mail"] + "\r\n"
	const form = "Content-Type: application/x-www-form-urlencoded\r\n"
	for what, c := range map[string]struct{ path, head, body string }{
		"nobody":                  {"/", "", ""},
		"nobody, half a body":     {"/", form, "a="},
		"another site":            {"/", "Sec-Fetch-Site: cross-site\r\n", ""},
		"a page of ours":          {"/__letterlock/out", "", ""},
		"blocked by its address":  {"/installer/", own, ""},
		"blocked by its form":     {"/", own + form, "_task=login&"},
		"an upload that stops":    {"/", own, "x"},
		"an address not for us":   {"/..;/", "", ""},
		"signed in and silent":    {"/", own, ""},
		"the sign-in of a script": {"/", "X-Requested-With: XMLHttpRequest\r\n", ""},
	} {
		conn, err := net.Dial("tcp", b.front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: 1000\r\n\r\n%s", c.path, b.front.Listener.Addr(), c.head, c.body)
		_, err = io.Copy(io.Discard, conn)
		conn.Close()
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%s: the connection is held", what)
		}
	}
}

// Answers before the answer stay with the gateway: they would pass by all that is done to an
// answer's headers, and take those that the gateway set along with them.
func TestEarlyHints(t *testing.T) {
	b := newBench(t, nil)
	b.gate.secure = true
	b.answer = func(w http.ResponseWriter, _ *http.Request) {
		head := w.Header()
		head.Set("Link", "</style.css>; rel=preload; as=style")
		head.Set("Set-Cookie", "planted=1")
		head.Set("Strict-Transport-Security", "max-age=0")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		fmt.Fprint(w, "the page")
	}
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, head textproto.MIMEHeader) error {
		t.Errorf("the browser sees %d with %v", code, head)
		return nil
	}}
	r := s.request(http.MethodGet, "/", "")
	resp := s.do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "the page" {
		t.Errorf("got %d, %q, %v", resp.StatusCode, body, err)
	}
	if got := resp.Header.Values("Strict-Transport-Security"); len(got) != 1 || got[0] == "max-age=0" {
		t.Errorf("Strict-Transport-Security: %q", got)
	}
	if got := resp.Header.Get("Set-Cookie"); !strings.Contains(got, boundMark) {
		t.Errorf("a cookie that is not bound: %q", got)
	}
}
