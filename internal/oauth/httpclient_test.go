package oauth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRedirectsAreNotFollowed(t *testing.T) {
	var strayed atomic.Int32
	other := serve(t, func(http.ResponseWriter, *http.Request) { strayed.Add(1) })
	for _, status := range []int{301, 302, 303, 304, 307, 308} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", other.URL+"/?token=leak")
			w.WriteHeader(status)
		})
		_, err := connTo(server.URL).Refresh(t.Context(), hidden("rt-canary"), nil, nil)
		wantError(t, err, strings.TrimPrefix(server.URL, "http://")+"/token answers with a redirect")
		if f := fault(t, err); !f.Temporary() {
			t.Errorf("%d: not temporary", status)
		}
		if strings.Contains(err.Error(), "leak") || strings.Contains(err.Error(), "rt-canary") {
			t.Errorf("%d: the error leaks: %v", status, err)
		}
	}
	if n := strayed.Load(); n != 0 {
		t.Errorf("%d requests went to the place redirected to", n)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	gigabyte := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"access_token":"a","token_type":"Bearer","x":"`)
		block := bytes.Repeat([]byte("x"), 1<<16)
		for range 1 << 14 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, `"}`)
	})
	_, err := connTo(gigabyte.URL).Refresh(t.Context(), hidden("rt"), nil, nil)
	if !errors.Is(err, errTooLarge) || !fault(t, err).Temporary() {
		t.Errorf("a gigabyte gives %v", err)
	}
	// A cut that looks whole must not pass: the limit falls right behind the object.
	text := `{"access_token":"a"}` + strings.Repeat(" ", maxBody)
	_, err = connTo(serve(t, reply(200, text)).URL).Refresh(t.Context(), hidden("rt"), nil, nil)
	if !errors.Is(err, errTooLarge) {
		t.Errorf("an answer cut at a good place gives %v", err)
	}
	text = `{"access_token":"a"}`
	text += strings.Repeat(" ", maxBody-len(text))
	if _, err = connTo(serve(t, reply(200, text)).URL).Refresh(t.Context(), hidden("rt"), nil, nil); err != nil {
		t.Errorf("an answer of exactly the limit gives %v", err)
	}
}

func TestDripEndsByTimeout(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, " "); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	conn := connTo(server.URL)
	conn.HTTP = NewHTTPClient(HTTPOptions{Timeout: 150 * time.Millisecond})
	_, err := conn.Refresh(t.Context(), hidden("rt"), nil, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !fault(t, err).Temporary() {
		t.Errorf("a dripping server gives %v", err)
	}
	wantError(t, err, "the server gave no complete answer in time")
}

func TestPlainHTTPIsForLoopback(t *testing.T) {
	for host, allowed := range map[string]bool{
		"127.0.0.1": true, "127.8.9.1": true, "[::1]": true, "localhost": true, "LOCALHOST": true,
		"10.0.0.1": false, "0.0.0.0": false, "localhost.example": false, "127.0.0.1.example": false,
		"[::ffff:10.0.0.1]": false, "localhost.": false, "2130706433": false, "idp.example": false,
	} {
		_, err := parseURL("http://" + host + ":8080/token")
		if (err == nil) != allowed {
			t.Errorf("http to %s: %v, want allowed = %v", host, err, allowed)
		}
		if !allowed {
			// The client refuses by itself, whoever builds the request.
			_, err := NewHTTPClient(HTTPOptions{}).Get("http://" + host + ":1/")
			wantError(t, err, "loopback")
		}
	}
}

func TestNoConnectionIsKept(t *testing.T) {
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(reply(200, `{"access_token":"a"}`))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	conn := connTo(server.URL)
	for range 3 {
		if _, err := conn.Refresh(t.Context(), hidden("rt"), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("3 requests used %d connections", n)
	}
}

func TestTraceHasNoSecret(t *testing.T) {
	var trace bytes.Buffer
	server := serve(t, reply(200, `{"access_token":"at-canary","refresh_token":"rt2-canary"}`))
	conn := connTo(server.URL)
	conn.HTTP = NewHTTPClient(HTTPOptions{Trace: &trace})
	conn.Endpoints.Token += "?key=query-canary"
	conn.Client = Client{ID: "client", Secret: hidden("cs-canary"), Auth: AuthBasic}
	if _, err := conn.Refresh(t.Context(), hidden("rt-canary"), nil, nil); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(trace.String(), "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "> POST 127.0.0.1:") || !strings.Contains(lines[1], "/token: 200 (") {
		t.Errorf("trace is %q", lines)
	}
	if strings.Contains(trace.String(), "canary") {
		t.Errorf("trace leaks: %s", trace.String())
	}
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func newTLSServer(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(reply(200, `{"access_token":"a"}`))
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// authority makes a certificate authority and a certificate of it for the given names.
func authority(t *testing.T, ip net.IP) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IPAddresses: []net.IP{ip}, DNSNames: []string{"idp.test"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLS(t *testing.T) {
	good, goodCert := authority(t, net.IPv4(127, 0, 0, 1))
	other, otherCert := authority(t, net.IPv4(10, 9, 9, 9))
	for _, test := range []struct {
		name  string
		cert  tls.Certificate
		roots *x509.CertPool
		max   uint16
		host  string
		want  string // part of the error; empty: success
	}{
		{name: "company root", cert: goodCert, roots: good},
		{name: "system roots only", cert: goodCert, want: "certificate"},
		{name: "another company's root", cert: goodCert, roots: other, want: "certificate"},
		{name: "trusted, for another address", cert: otherCert, roots: other, want: "127.0.0.1"},
		{name: "trusted, for another name", cert: goodCert, roots: good, host: "localhost", want: "localhost"},
		{name: "TLS 1.1", cert: goodCert, roots: good, max: tls.VersionTLS11, want: "protocol version"},
		{name: "TLS 1.2", cert: goodCert, roots: good, max: tls.VersionTLS12},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(reply(200, `{"access_token":"a"}`))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{test.cert}, MinVersion: tls.VersionTLS10, MaxVersion: test.max}
			server.Config.ErrorLog = quiet()
			server.StartTLS()
			defer server.Close()
			place := server.URL
			if test.host != "" {
				place = strings.Replace(place, "127.0.0.1", test.host, 1)
			}
			conn := connTo(place)
			conn.HTTP = NewHTTPClient(HTTPOptions{Roots: test.roots})
			_, err := conn.Refresh(t.Context(), hidden("rt"), nil, nil)
			if test.want == "" && err != nil || test.want != "" && err == nil {
				t.Fatalf("error is %v, want %q", err, test.want)
			}
			if test.want != "" {
				wantError(t, err, test.want)
			}
		})
	}
}

// TestChild is the program that the two tests below start: http.ProxyFromEnvironment
// and the system's roots are read once in the life of a process.
func TestChild(t *testing.T) {
	place := os.Getenv("OAUTH_TEST_CHILD")
	if place == "" {
		return
	}
	conn := connTo(place)
	conn.HTTP = NewHTTPClient(HTTPOptions{Timeout: patience})
	_, err := conn.Refresh(t.Context(), hidden("rt"), nil, nil)
	fmt.Printf("child: %v\n", err)
}

func child(t *testing.T, place string, env ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), "OAUTH_TEST_CHILD="+place)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return string(out)
}

func TestProxyFromEnvironment(t *testing.T) {
	asked := make(chan string, 1)
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host
		w.WriteHeader(http.StatusBadGateway)
	})
	out := child(t, "https://idp.invalid", "HTTPS_PROXY="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if !strings.Contains(out, "Bad Gateway") {
		t.Errorf("child said %s", out)
	}
	select {
	case got := <-asked:
		if got != "CONNECT idp.invalid:443" {
			t.Errorf("proxy was asked %q", got)
		}
	default:
		t.Error("proxy was not asked")
	}
}
