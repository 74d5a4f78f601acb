//go:build lab

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/letterlock-mail/letterlock/internal/lab/browser"
)

// forged: what a browser, or who has its cookie, says of itself is never believed. Requests are
// sent by hand, since browsers send no such headers; PHP says what it was told.
func (w *askingWebmail) forged(ctx context.Context, b *browser.Browser) {
	t := w.t
	t.Helper()
	cookie := w.cookies(ctx, b)
	host := strings.TrimPrefix(w.gate, "https://")
	claims := []string{
		"X-Remote-User: bob@try.test", "x-rEMOTE-uSER: bob@try.test", "X_Remote_User: bob@try.test", "REMOTE_USER: bob@try.test", "Remote-User: bob@try.test",
		"PHP-AUTH-USER: bob@try.test", "PHP_AUTH_USER: bob@try.test", "PHP_AUTH_PW: bob-secret", "X-Forwarded-User: bob@try.test", "X-Forwarded-Email: bob@try.test",
		"X-Letterlock-User: bob@try.test", "X-Letterlock-Authorization: Basic bob", "x_letterlock_cookie: roundcube_sessid=bob", "X-Letterlock-Asked: 200",
		"OIDC_CLAIM_email: bob@try.test", "OIDC-Claim-Email: bob@try.test", "HTTPS: bob", "Content_Type: bob",
		"X-Forwarded-For: 192.0.2.66", "X-Real-IP: 192.0.2.66", "Forwarded: for=192.0.2.66", "Client-IP: 192.0.2.66", "X-Client-IP: 192.0.2.66",
		"Proxy: http://192.0.2.66:3128", "X-Forwarded-Host: evil.test", "X-Host: evil.test", "X-Original-URI: /installer/bob", "X-Original-Url: /bob", "X-Rewrite-Url: /bob",
		"X-Http-Method-Override: BOB", "X-Accel-Redirect: /bob",
	}
	basic := base64.StdEncoding.EncodeToString([]byte("bob@try.test:bob-secret"))
	mine := "Cookie: " + cookie + "; filler=" + strings.Repeat("f", 6000)
	for _, c := range []struct {
		name  string
		lines []string
	}{
		{"headers", append([]string{"GET /?dump HTTP/1.1", "Host: " + host, mine}, claims...)},
		{"Basic", []string{"GET /?dump HTTP/1.1", "Host: " + host, mine, "Authorization: Basic " + basic}},
		{"Bearer, in capitals", []string{"GET /?dump HTTP/1.1", "Host: " + host, mine, "AUTHORIZATION: BEARER bob"}},
		{"Basic, in two lines", []string{"GET /?dump HTTP/1.1", "Host: " + host, mine, "authorization: basic " + basic, "Authorization: Basic " + basic}},
		{"another host", []string{"GET https://webmail.try.test/?dump HTTP/1.1", "Host: evil.test", mine}},
		{"our names as cookies", []string{"GET /?dump HTTP/1.1", "Host: " + host, mine + "; __host-letterlock-mail=bob; letterlock=bob; LETTERLOCK_mail=bob; _task=login; _action=login"}},
		{"Connection takes out", []string{"GET /?dump HTTP/1.1", "Host: " + host, mine, "Connection: Authorization, Cookie, X-Original-URI, X-Forwarded-For"}},
	} {
		status, body := w.raw(ctx, c.lines...)
		var told map[string]any
		if err := json.Unmarshal([]byte(body), &told); err != nil || status != http.StatusOK {
			// To refuse is as good; what comes through must be ours.
			if c.name != "Basic, in two lines" || status != http.StatusBadRequest {
				t.Errorf("%s: %d %.500s", c.name, status, body)
			}
			continue
		}
		for name, value := range told {
			text := strings.ToLower(fmt.Sprint(name, " ", value))
			for _, word := range []string{"bob", "192.0.2.66", "evil", "letterlock-mail", basic} {
				if strings.Contains(text, word) {
					t.Errorf("%s: PHP is told %s: %v", c.name, name, value)
				}
			}
		}
		for name, want := range map[string]string{
			"PHP_AUTH_USER": "alice@try.test", "REMOTE_USER": "alice@try.test", "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": host, "HTTPS": "on", "HTTP_PROXY": "",
		} {
			if got, _ := told[name].(string); got != want {
				t.Errorf("%s: PHP is told %s: %q, want %q", c.name, name, got, want)
			}
		}
		if got := fmt.Sprint(told["PHP_AUTH_PW"]); !strings.HasPrefix(got, "Bearer llat_") {
			t.Errorf("%s: PHP has no token", c.name)
		}
		if got := fmt.Sprint(told["HTTP_COOKIE"]); !strings.Contains(got, "roundcube_sessid_") || !strings.Contains(got, "filler=fff") || strings.Contains(got, "_task") {
			t.Errorf("%s: PHP has the cookies %.100s", c.name, got)
		}
	}
	// Without the session nothing of it helps.
	for _, line := range append(claims, "Authorization: Basic "+basic, "Cookie: "+strings.Replace(cookie, "letterlock-mail=", "letterlock-mail=A", 1)) {
		if status, body := w.raw(ctx, "GET /?dump HTTP/1.1", "Host: "+host, line); status != http.StatusSeeOther || strings.Contains(body, "PHP_AUTH") {
			t.Errorf("%s, without a session: %d", line, status)
		}
	}
	w.otherSites(ctx, cookie, host)
	w.sockets(ctx, cookie, host)
}

// otherSites: a form of another site is refused by its Origin, whatever cookies came along.
func (w *askingWebmail) otherSites(ctx context.Context, cookie, host string) {
	w.t.Helper()
	for _, c := range []struct {
		lines []string
		want  int
	}{
		{[]string{"Origin: https://evil.test"}, http.StatusForbidden},
		{[]string{"Origin: null", "Sec-Fetch-Site: cross-site"}, http.StatusForbidden},
		{[]string{"Origin: https://id.try.test", "Sec-Fetch-Site: same-site"}, http.StatusForbidden},
		{[]string{"Origin: " + w.gate, "Sec-Fetch-Site: same-origin"}, http.StatusOK},
	} {
		lines := append([]string{"POST /?dump HTTP/1.1", "Host: " + host, "Cookie: " + cookie, "Content-Length: 0"}, c.lines...)
		if status, _ := w.raw(ctx, lines...); status != c.want {
			w.t.Errorf("a form with %q: %d, want %d", c.lines, status, c.want)
		}
	}
}

// cookies are what the browser would send, names that scripts cannot see among them.
func (w *askingWebmail) cookies(ctx context.Context, b *browser.Browser) string {
	t := w.t
	t.Helper()
	run, cancel := context.WithCancel(b.Context())
	defer context.AfterFunc(ctx, cancel)()
	defer cancel()
	all, err := chromedp.Run(run, func(ctx context.Context, target *chromedp.Target) (network.GetCookiesResult, error) {
		return cdp.Call(ctx, target, network.GetCookies, network.GetCookiesParams{URLs: []string{w.gate + "/"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	var pairs, names []string
	for _, c := range all.Cookies {
		pairs, names = append(pairs, c.Name+"="+c.Value), append(names, c.Name)
	}
	if have := strings.Join(names, " "); !strings.Contains(have, "__Host-letterlock-mail") || !strings.Contains(have, "roundcube_sessid") {
		t.Fatalf("the browser has the cookies %s", have)
	}
	return strings.Join(pairs, "; ")
}

// dial opens a connection to nginx.
func (w *askingWebmail) dial(ctx context.Context) net.Conn {
	w.t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: w.ca.Pool(), ServerName: "webmail.try.test"}}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", w.gatePort))
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// raw sends a request as it stands, and returns the answer.
func (w *askingWebmail) raw(ctx context.Context, lines ...string) (int, string) {
	t := w.t
	t.Helper()
	conn := w.dial(ctx)
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", lines[0], err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", lines[0], err)
	}
	return resp.StatusCode, string(body)
}

// A socketApp is a program beside Roundcube that speaks by WebSocket; it says with which
// headers the connection came, and what it is told.
type socketApp struct{ address string }

func startSocketApp(t *testing.T) *socketApp {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n%s|%s\n", r.Header.Get("Authorization"), r.Header.Get("Cookie"))
		if buf.Flush() == nil {
			_, _ = io.Copy(conn, buf) // an echo until the other end is gone
		}
	}))
	t.Cleanup(server.Close)
	return &socketApp{address: server.Listener.Addr().String()}
}

// socketLocation is what an administrator writes for it: auth_request of the server holds there.
func socketLocation(app *socketApp) string {
	return fmt.Sprintf(`  location /ws {
    proxy_pass http://%s;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection upgrade;
    proxy_set_header Authorization $letterlock_authorization;
    proxy_set_header Cookie $letterlock_cookie;
  }
`, app.address)
}

// sockets: a WebSocket passes for who is signed in, and for no other site.
func (w *askingWebmail) sockets(ctx context.Context, cookie, host string) {
	t := w.t
	t.Helper()
	for _, c := range []struct {
		name, cookie, origin string
		want                 int
	}{
		{"ours", cookie, w.gate, http.StatusSwitchingProtocols},
		{"another site's", cookie, "https://evil.test", http.StatusForbidden},
		{"nobody's", "x=y", w.gate, http.StatusUnauthorized},
	} {
		func() {
			conn := w.dial(ctx)
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-Fetch-Mode: websocket\r\nOrigin: %s\r\nCookie: %s\r\nAuthorization: Basic Ym9i\r\n\r\n", host, c.origin, c.cookie)
			reader := bufio.NewReader(conn)
			resp, err := http.ReadResponse(reader, nil)
			if err != nil || resp.StatusCode != c.want {
				t.Errorf("a WebSocket, %s: %v, %v, want %d", c.name, resp, err, c.want)
				return
			}
			if c.want != http.StatusSwitchingProtocols {
				return
			}
			head, err := reader.ReadString('\n')
			if err != nil || !strings.HasPrefix(head, "Basic ") || strings.Contains(head, "Ym9i|") || !strings.Contains(head, "roundcube_sessid_") || strings.Contains(head, "letterlock") {
				t.Errorf("the program gets %q, %v", head, err)
			}
			fmt.Fprint(conn, "apples\n")
			if line, err := reader.ReadString('\n'); line != "apples\n" {
				t.Errorf("the program says %q, %v", line, err)
			}
		}()
	}
}
