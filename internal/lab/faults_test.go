package lab_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello, world") }

func TestHTTPFaults(t *testing.T) {
	var hits atomic.Int32
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hits.Add(1); hello(w, r) }))
	t.Cleanup(behind.Close)
	for _, c := range []struct {
		name  string
		fault lab.Fault
		want  func(*http.Response, []byte, error) bool
		hits  int
	}{
		{"none", lab.Fault{Path: "/elsewhere", Reset: true}, func(r *http.Response, b []byte, err error) bool {
			return err == nil && string(b) == "hello, world"
		}, 1},
		{"reset", lab.Fault{Reset: true}, func(r *http.Response, _ []byte, err error) bool { return r == nil && err != nil }, 0},
		{"lost answer", lab.Fault{LoseAnswer: true}, func(r *http.Response, _ []byte, err error) bool { return r == nil && err != nil }, 1},
		{"drop", lab.Fault{DropAfter: 5}, func(r *http.Response, b []byte, err error) bool {
			return r != nil && r.ContentLength == 12 && string(b) == "hello" && err != nil
		}, 1},
		{"status", lab.Fault{Status: 503, Body: "no", Header: http.Header{"Retry-After": {"9"}}}, func(r *http.Response, b []byte, err error) bool {
			return err == nil && r.StatusCode == 503 && r.Header.Get("Retry-After") == "9" && string(b) == "no"
		}, 0},
		{"redirect", lab.Fault{Status: 307, Header: http.Header{"Location": {"http://evil.test/"}}}, func(r *http.Response, _ []byte, err error) bool {
			return err == nil && r.StatusCode == 307
		}, 0},
		{"flood", lab.Fault{Status: 200, Body: "{", Flood: 3 << 20}, func(_ *http.Response, b []byte, err error) bool {
			return err == nil && len(b) == 3<<20+1
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			hits.Store(0)
			f := lab.RunHTTPFault(t, lab.HTTPFaultOptions{Target: behind.URL})
			f.Set(c.fault)
			resp, body, err := get(t.Context(), f.URL+"/token")
			if !c.want(resp, body, err) {
				t.Errorf("response %v, body %.40q, error %v", resp, body, err)
			}
			if int(hits.Load()) != c.hits || f.Requests("/token") != 1 {
				t.Errorf("%d requests arrived, %d counted", hits.Load(), f.Requests("/token"))
			}
			f.Clear()
			if _, body, err := get(t.Context(), f.URL+"/token"); err != nil || string(body) != "hello, world" {
				t.Errorf("after Clear: %q, %v", body, err)
			}
		})
	}
}

func get(ctx context.Context, address string) (*http.Response, []byte, error) {
	// No connection is kept: a retry on a fresh one would hide a reset.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func TestHTTPFaultHangsAndRefuses(t *testing.T) {
	f := lab.RunHTTPFault(t, lab.HTTPFaultOptions{})
	f.Set(lab.Fault{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := get(ctx, f.URL); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the hanging server answered: %v", err)
	}
	f.Close()
	if _, _, err := get(t.Context(), f.URL); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the closed port: %v", err)
	}
	f.Set(lab.Fault{Status: 204})
	if err := f.Open(); err != nil {
		t.Fatal(err)
	}
	if resp, _, err := get(t.Context(), f.URL); err != nil || resp.StatusCode != 204 {
		t.Errorf("the opened port: %v, %v", resp, err)
	}
}

func TestHooksSeeTheMoments(t *testing.T) {
	var order []string
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { order = append(order, "server"); hello(w, r) }))
	t.Cleanup(behind.Close)
	f := lab.RunHTTPFault(t, lab.HTTPFaultOptions{
		Target: behind.URL,
		Before: func(*http.Request) { order = append(order, "before") },
		After:  func(_ *http.Request, r *http.Response) { order = append(order, "after "+r.Status) },
	})
	if _, _, err := get(t.Context(), f.URL); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ", "); got != "before, server, after 200 OK" {
		t.Errorf("the order was %s", got)
	}
}

func TestTCPFault(t *testing.T) {
	behind := httptest.NewServer(http.HandlerFunc(hello))
	t.Cleanup(behind.Close)
	f := lab.RunTCPFault(t, behind.Listener.Addr().String())
	if _, body, err := get(t.Context(), "http://"+f.Addr()); err != nil || string(body) != "hello, world" {
		t.Fatalf("passing: %q, %v", body, err)
	}
	f.DropAfter(20)
	if resp, _, err := get(t.Context(), "http://"+f.Addr()); err == nil {
		t.Errorf("a connection dropped after 20 octets gave %v", resp)
	}
	f.DropAfter(0)
	f.Hang(true)
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for f.Connections() < 3 { // what nobody has accepted is silent anyhow
		runtime.Gosched()
	}
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the silent connection: %v", err)
	}
	f.Close()
	if _, err := net.Dial("tcp", f.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the closed port: %v", err)
	}
	if n := f.Connections(); n != 3 {
		t.Errorf("%d connections were counted", n)
	}
}

// Who comes while the wire is cut is cut off too, wherever the connection stood just then.
func TestTCPFaultCutsAll(t *testing.T) {
	behind := httptest.NewServer(http.HandlerFunc(hello))
	t.Cleanup(behind.Close)
	f := lab.RunTCPFault(t, behind.Listener.Addr().String())
	for n := range 100 {
		if err := f.Open(); err != nil {
			t.Fatal(err)
		}
		begun, came := make(chan struct{}), make(chan net.Conn, 1)
		go func() {
			close(begun)
			conn, _ := net.Dial("tcp", f.Addr()) // refused is as good
			came <- conn
		}()
		<-begun
		for range n % 10 {
			runtime.Gosched()
		}
		f.Close()
		f.Cut()
		conn := <-came
		if conn == nil {
			continue
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if text, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
			t.Fatalf("round %d: cut off, and it says %q", n, text)
		}
		conn.Close()
	}
}

// A port is nobody else's as long as we live: what is closed for a while comes back.
func TestPortsAreKept(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	ports, err := lab.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range append(ports, lab.RunTCPFault(t, "127.0.0.1:1").Port()) {
		if l, err := net.Listen("unix", "@letterlock-lab-port-"+strconv.Itoa(port)); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("another process can have port %d: %v, %v", port, l, err)
		}
	}
}

func TestInternet(t *testing.T) {
	ca := lab.RunCA(t)
	cfg, err := ca.Server("accounts.example.test")
	if err != nil {
		t.Fatal(err)
	}
	far := httptest.NewUnstartedServer(http.HandlerFunc(hello))
	far.TLS = cfg
	far.StartTLS()
	t.Cleanup(far.Close)
	near := httptest.NewServer(http.HandlerFunc(hello))
	t.Cleanup(near.Close)
	internet := lab.RunInternet(t)
	internet.Map("accounts.example.test", far.Listener.Addr().String())
	internet.Map("plain.example.test:80", near.Listener.Addr().String())
	proxy, err := url.Parse(internet.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: ca.Client()}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for address, want := range map[string]bool{
		"https://accounts.example.test/":   true,
		"http://plain.example.test/":       true,
		"https://www.googleapis.com/":      false,
		"https://plain.example.test/":      false,
		"https://accounts.example.test.x/": false,
	} {
		resp, err := client.Get(address)
		ok := err == nil && resp.StatusCode == http.StatusOK
		if ok != want {
			t.Errorf("%s: %v, %v", address, resp, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	if n := len(internet.Asked()); n != 5 {
		t.Errorf("%d connections were asked for: %q", n, internet.Asked())
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	ca, other := lab.RunCA(t), lab.RunCA(t)
	cert, err := ca.IssueOnly("mail.try.test")
	if err != nil {
		t.Fatal(err)
	}
	if pool := other.Pool(); pool.Equal(ca.Pool()) {
		t.Error("two authorities are one")
	}
	leaf, err := x509.ParseCertificate(cert.TLS.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if leaf.VerifyHostname("mail.try.test") != nil || leaf.VerifyHostname("localhost") == nil {
		t.Errorf("the certificate is for %v %v", leaf.DNSNames, leaf.IPAddresses)
	}
}

func readLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}
