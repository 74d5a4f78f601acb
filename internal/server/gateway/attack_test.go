package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// forgeries are what a browser may try to pass on as somebody else's word. Each must not
// reach the web mail, whatever the spelling.
func forgeries() []string {
	return []string{
		"Authorization", "authorization", "AUTHORIZATION", "Proxy-Authorization", "Php-Auth-User", "PHP_AUTH_USER",
		"Remote-User", "REMOTE_USER", "Remote_User", "remote.user", "X-Remote-User", "X_Remote_User", "x_remote-user", "X-REMOTE_USER", "X.Remote.User",
		"Remote-Email", "Remote-Groups", "X-Forwarded-User", "X_Forwarded_User", "X-Forwarded-Email", "X-Forwarded-Access-Token",
		"X-Auth-Request-User", "X-Auth-User", "X-Authenticated-User", "X-Webauth-User", "X-User", "X-Email", "X-Username",
		"OIDC_CLAIM_email", "OIDC-Claim-Email", "oidc_access_token", "X-Oidc-Sub", "X-Amzn-Oidc-Data", "X-Ms-Client-Principal",
		"X-Goog-Authenticated-User-Email", "Cf-Access-Jwt-Assertion", "X-Pomerium-Jwt-Assertion", "Ssl-Client-S-Dn", "X-Ssl-Client-Verify", "X-Client-Cert",
		"X-Forwarded-For", "X_Forwarded_For", "x-forwarded_for", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "Forwarded",
		"X-Real-Ip", "X_Real_Ip", "Client-Ip", "True-Client-Ip", "X-Cluster-Client-Ip", "Cf-Connecting-Ip", "X-Originating-Ip", "Via",
		"X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Method-Override", "X-Accel-Internal", "X-Sendfile-Type", "Proxy",
		"X-Letterlock-Authorization", "X-Letterlock-User", "Cookie2", "Redirect-Remote-User", "Sm-User", "X-Host", "Trailer-X_Y",
	}
}

const forged = "root@evil.test"

// TestForgedHeaders sends each, alone and named by Connection, and looks at what came
// through at the upstream.
func TestForgedHeaders(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	for _, name := range forgeries() {
		for _, connection := range []string{"", name, "Authorization, Cookie, X-Forwarded-For"} {
			r := s.request(http.MethodGet, "/", "")
			r.Header[name] = []string{forged}
			if connection != "" {
				r.Header.Set("Connection", connection)
			}
			e := s.echoed(s.do(r))
			if user, _ := ticketOf(t, e); user != "ann@try.test" {
				t.Errorf("%s: the web mail was shown %s", name, user)
			}
			for key, values := range e.Header {
				if strings.Contains(strings.Join(values, " "), forged) {
					t.Errorf("%s came through as %s", name, key)
				}
			}
			if from := e.Header["X-Forwarded-For"]; !slices.Equal(from, []string{"127.0.0.1"}) {
				t.Errorf("%s: X-Forwarded-For %q", name, from)
			}
		}
	}
	// What a web mail needs passes.
	e := s.echoed(s.get("/", "X-Requested-With", "XMLHttpRequest", "X-Roundcube-Request", "token", "Accept-Language", "de", "If-None-Match", `"x"`, "Range", "bytes=0-1"))
	for _, name := range []string{"X-Requested-With", "X-Roundcube-Request", "Accept-Language", "If-None-Match", "Range"} {
		if e.Header.Get(name) == "" {
			t.Errorf("%s did not pass", name)
		}
	}
}

// A trailer is a header that comes last.
func TestForgedTrailer(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	r := s.request(http.MethodPost, "/", "")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x=1")), -1
	r.Trailer = http.Header{"Authorization": {"Basic " + forged}, "X-Remote-User": {forged}}
	e := s.echoed(s.do(r))
	if len(e.Trailer) != 0 || e.Body != "x=1" {
		t.Errorf("trailer %v, body %q", e.Trailer, e.Body)
	}
}

// FuzzStrip: whatever the name, what is left claims nothing, in the way CGI reads names.
func FuzzStrip(f *testing.F) {
	for _, name := range forgeries() {
		f.Add(name)
	}
	for _, name := range []string{"Accept", "X-Requested-With", "", "-", "X-", "X-Forwarded", "\x00", "Ünï"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		head := http.Header{name: {"v"}, textproto.CanonicalMIMEHeaderKey(name): {"v"}}
		strip(head)
		for left := range head {
			cgi := strings.Map(func(r rune) rune {
				switch {
				case r >= 'a' && r <= 'z':
					return r - 'a' + 'A'
				case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
					return r
				}
				return '_'
			}, left)
			for _, evil := range []string{"AUTHORIZATION", "PROXY_AUTHORIZATION", "PROXY", "COOKIE", "VIA", "FORWARDED", "TE", "TRAILER", "EXPECT", "USER"} {
				if cgi == evil {
					t.Fatalf("%q is left and is %s", left, evil)
				}
			}
			for _, evil := range []string{"REMOTE_", "X_REMOTE_", "X_FORWARDED", "X_AUTH_", "X_REAL_", "OIDC_", "X_ORIGINAL_", "X_REWRITE_", "PHP_AUTH_", "X_LETTERLOCK_", "CLIENT_", "X_CLIENT_", "SSL_"} {
				if strings.HasPrefix(cgi, evil) {
					t.Fatalf("%q is left and begins as %s", left, evil)
				}
			}
			if strings.ContainsAny(left, "_. \t\r\n:") {
				t.Fatalf("%q is left and is not plain", left)
			}
		}
	})
}

// setter is an upstream that sets cookies as web mail does.
func setter(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Add("Set-Cookie", "roundcube_sessid=s3cr3t; Path=/; HttpOnly; Domain=try.test")
	head.Add("Set-Cookie", "colorMode=dark; Path=/")
	head.Add("Set-Cookie", "letterlock-mail=planted; Path=/")
	head.Add("Set-Cookie", "__Host-letterlock-mail=planted; Path=/; Secure")
	head.Add("Set-Cookie", "Letterlock_Mail=planted; Path=/")
	head.Set("Www-Authenticate", `Basic realm="password please"`)
	head.Set("Clear-Site-Data", `"cookies"`)
	_, _ = io.WriteString(w, r.Header.Get("Cookie"))
}

// Cookies: ours never reach the web mail, its own never another session.
func TestCookies(t *testing.T) {
	b := newBench(t, nil)
	b.answer = setter
	b.sit("ann")
	ann := b.surfer()
	ann.open("/")
	text := func(resp *http.Response) string {
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	ann.jar["sneaky"] = "planted-before"
	resp := ann.get("/")
	if got := text(resp); got != "" {
		t.Errorf("before the web mail set any cookie it got %q", got)
	}
	own := ann.jar["letterlock-mail"]
	if own == "planted" || ann.jar["Letterlock_Mail"] != "" || ann.jar["__Host-letterlock-mail"] != "" {
		t.Error("the web mail set one of our cookies")
	}
	for _, c := range resp.Cookies() {
		if c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
			t.Errorf("%s for domain %q, SameSite %v", c.Name, c.Domain, c.SameSite)
		}
	}
	for _, name := range []string{"Www-Authenticate", "Clear-Site-Data"} {
		if resp.Header.Get(name) != "" {
			t.Errorf("%s came through", name)
		}
	}
	want := []string{"colorMode=dark", "roundcube_sessid=s3cr3t"}
	got := strings.Split(text(ann.get("/", "Cookie", "letterlock=pages; __Host-letterlock=pages; __Secure-letterlock-mail=x; __HOST-LETTERLOCK-BEGIN=x; letterlock_mail=x")), "; ")
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the web mail got %q", got)
	}

	// bob sits down at the same browser, with all that ann's web mail left in it; and a
	// thief copies it to another.
	left := map[string]string{}
	for name, value := range ann.jar {
		left[name] = value
	}
	b.sit("bob")
	bob := b.surfer()
	bob.jar = map[string]string{"roundcube_sessid": left["roundcube_sessid"], "colorMode": left["colorMode"]}
	bob.open("/")
	if bob.jar["roundcube_sessid"] != "" {
		t.Error("ann's cookie was not cleared at the change of person")
	}
	bob.jar["roundcube_sessid"] = left["roundcube_sessid"]
	if got := text(bob.get("/")); strings.Contains(got, "roundcube_sessid") {
		t.Errorf("ann's session cookie reached the web mail as bob's: %q", got)
	}
	for name, value := range map[string]string{
		"without its seal": "s3cr3t", "with a seal of another value": "other" + left["roundcube_sessid"][len("s3cr3t"):],
		"with two seals": left["roundcube_sessid"] + left["roundcube_sessid"][len("s3cr3t"):], "empty": "", "a seal alone": left["roundcube_sessid"][len("s3cr3t"):],
	} {
		ann.jar["roundcube_sessid"] = value
		if got := text(ann.get("/")); strings.Contains(got, "roundcube_sessid") {
			t.Errorf("a cookie %s came through: %q", name, got)
		}
	}
	ann.jar["roundcube_other"] = left["roundcube_sessid"] // under another name
	if got := text(ann.get("/")); strings.Contains(got, "roundcube_other") {
		t.Errorf("a cookie under another name came through: %q", got)
	}
	// Of two of ours with one name neither is believed.
	if resp := ann.get("/", "Cookie", "letterlock-mail="+own); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("with two of our cookies: %d", resp.StatusCode)
	}
}

// FuzzBound: a value comes back as it was, from its own session and name only.
func FuzzBound(f *testing.F) {
	f.Add("roundcube_sessid", "s3cr3t", "s3cr3t~AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("a", "", "~")
	f.Fuzz(func(t *testing.T, name, value, invented string) {
		key, other := newBinder(bindingKey("one")), newBinder(bindingKey("other"))
		kept := key.bound(name, value)
		if got, ok := key.unbound(name, kept); !ok || got != value {
			t.Fatalf("%q came back as %q, %v", value, got, ok)
		}
		if _, ok := other.unbound(name, kept); ok {
			t.Fatal("another session took it")
		}
		if _, ok := key.unbound(name+"x", kept); ok {
			t.Fatal("another name took it")
		}
		if _, ok := key.unbound(name, invented); ok {
			t.Fatalf("%q was taken", invented)
		}
	})
}

// Framing: only the web mail may frame itself, and what it says itself stands.
func TestFraming(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	for _, c := range []struct{ frame, policy, want string }{
		{"", "", "SAMEORIGIN"}, {"deny", "", "deny"}, {"", "frame-ancestors 'none'", ""}, {"", "default-src 'self'", "SAMEORIGIN"},
	} {
		b.answer = func(w http.ResponseWriter, _ *http.Request) {
			if c.frame != "" {
				w.Header().Set("X-Frame-Options", c.frame)
			}
			if c.policy != "" {
				w.Header().Set("Content-Security-Policy", c.policy)
			}
		}
		if got := s.get("/").Header.Get("X-Frame-Options"); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	for _, path := range []string{"/__letterlock/out", "/__letterlock/in"} {
		if got := s.get(path, "Sec-Fetch-Site", "cross-site").Header.Get("X-Frame-Options"); got != "DENY" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// The browser hears one word of each, the web mail's if it has one, ours if not.
func TestOneWordEach(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	ours := map[string]string{"X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "private"}
	for _, c := range []struct{ theirs, want []string }{
		{nil, nil}, {[]string{""}, nil}, {[]string{"", "later"}, nil}, {[]string{"theirs"}, []string{"theirs"}},
	} {
		b.answer = func(w http.ResponseWriter, _ *http.Request) {
			for name := range ours {
				w.Header()[name] = c.theirs
			}
		}
		head := s.get("/").Header
		for name, value := range ours {
			want := c.want
			if want == nil {
				want = []string{value}
			}
			if !slices.Equal(head[name], want) {
				t.Errorf("the web mail says %q: %s: %q, want %q", c.theirs, name, head[name], want)
			}
		}
	}
}

// What is blocked, in all spellings that some server reads as the same.
func TestBlocked(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Blocked = []Rule{{Path: "/admin"}, {Path: "/api", Param: "do", Value: "reset"}} })
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	form := "application/x-www-form-urlencoded"
	login := "--b\r\nContent-Disposition: form-data; name=\"_action\"\r\n\r\nlogin\r\n--b--\r\n"
	for _, c := range []struct {
		method, path, kind, body string
		want                     int
	}{
		{"GET", "/?_task=mail", "", "", 200},
		{"GET", "/?_task=login", "", "", 303},
		{"POST", "/?_task=login", form, "", 404},
		{"POST", "/?%5Ftask=LOGIN", "", "", 404},
		{"POST", "/?.task=login", "", "", 404},
		{"POST", "/?+_task=login", "", "", 404},
		{"POST", "/?_task%5B%5D=login", "", "", 404},
		{"POST", "/?_task=mail&_task=login", "", "", 404},
		{"POST", "/?_task=lo%3Cb%3Egin", "", "", 404},
		{"POST", "/?_task=log!in", "", "", 404},
		{"POST", "/?_action=login", "", "", 404},
		{"POST", "/", form, "_task=mail&_action=send&_message=login", 200},
		{"POST", "/", form, "_message=_task%3Dlogin%26", 200},
		{"POST", "/", form, "_task=login", 403},
		{"POST", "/", form + "; charset=x", "a=b&_task=mail&_action=login&_user=x", 403},
		{"POST", "/", "Application/X-WWW-Form-Urlencoded", "%5f%74ask=%6cogin", 403},
		{"POST", "/", form, strings.Repeat("x", 300_000) + "=1&_task=login", 403},
		{"POST", "/", form, "_task%00x=login", 403},
		{"POST", "/", "multipart/form-data; boundary=b", login, 403},
		{"POST", "/", "multipart/form-data; boundary=b", strings.ReplaceAll(login, "name=", "\r\n name="), 403},
		// Lines that go on, as PHP reads them: a blank of any kind, a CR alone, and far behind.
		{"POST", "/", "multipart/form-data; boundary=b", strings.ReplaceAll(login, " name=", "\r\n\vname="), 403},
		{"POST", "/", "multipart/form-data; boundary=b", strings.ReplaceAll(login, " name=", "\r\n\fname="), 403},
		{"POST", "/", "multipart/form-data; boundary=b", strings.ReplaceAll(login, " name=", "\rname="), 403},
		{"POST", "/", "multipart/form-data; boundary=b", strings.ReplaceAll(login, " name=", " x=\""+strings.Repeat("y", 3000)+"\"; name="), 403},
		{"POST", "/", "multipart/form-data; boundary=b", strings.Replace(login, "_action", "_file", 1), 200},
		{"POST", "/", "multipart/form-data; boundary=b", strings.Replace(login, "_action", "_file", 1) + strings.Repeat("_action", 1000) + "\r\n--b--\r\n", 200},
		{"POST", "/", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"_file\"\r\n\r\n\t_action " + strings.Repeat("x", 3000) + "\r\n--b--\r\n", 200},
		{"GET", "/installer", "", "", 404},
		{"GET", "/INSTALLER/index.php", "", "", 404},
		{"GET", "//installer/", "", "", 404},
		{"GET", "/%69nstaller/", "", "", 404},
		{"GET", "/installer;x=1/", "", "", 404},
		{"GET", "/installers", "", "", 200},
		{"POST", "/xmlrpc.php", "text/xml", "<methodCall/>", 404},
		{"POST", "/xmlrpc.php/x", "text/xml", "<methodCall/>", 404},
		{"POST", "/RPC2", "text/xml", "<methodCall/>", 404},
		{"GET", "/.htaccess", "", "", 404},
		{"GET", "/.well-known/x", "", "", 200},
		{"GET", "/admin/x", "", "", 404},
		{"GET", "/api?do=reset", "", "", 404},
		{"GET", "/api?do=list", "", "", 200},
		{"GET", "/x?do=reset", "", "", 200},
		{"GET", "/a/../installer/", "", "", 400},
		{"GET", "/a/%2e%2e/installer/", "", "", 400},
		{"GET", "/a/..;/installer/", "", "", 400},
		{"GET", `/a%5c..%5cinstaller`, "", "", 400},
		{"GET", "/__letterlock/nothing", "", "", 404},
		{"TRACE", "/", "", "", 400},
		{"Track", "/", "", "", 400},
	} {
		r := s.request(c.method, c.path, c.body, "Sec-Fetch-Site", "same-origin")
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		b.arrivals() // of the request before
		resp := s.do(r)
		if got := b.arrivals(); resp.StatusCode != c.want || (got == 1) != (c.want == 200) {
			t.Errorf("%s %s %.60q: %d, the web mail was asked %d times", c.method, c.path, c.body, resp.StatusCode, got)
		}
	}
	for _, bad := range []string{"", "/", "x", "?", "?a b=c", "?a=<", "?=x"} {
		if _, err := ParseRule(bad); err == nil {
			t.Errorf("rule %q was taken", bad)
		}
	}
}

// FuzzForm: however a form is cut into pieces, it is read in one way; and what PHP would
// take for a login is found.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{"_task=login", "a=b&_task=login", "%5ftask=login", "+_task=login", "_task=%6", "%", "&&=&", "_task[=login"} {
		f.Add(seed, 3)
	}
	watches := []Rule{{Param: "_task", Value: "login"}}
	f.Fuzz(func(t *testing.T, form string, cut int) {
		whole := formOf(watches, form)
		p := pairs{watches: watches}
		found := false
		for rest := []byte(form); len(rest) > 0 && !found; {
			n := min(max(cut%7, 1), len(rest))
			found = p.feed(rest[:n])
			rest = rest[n:]
		}
		if found = found || p.end(); found != whole {
			t.Fatalf("%q: whole %v, in pieces %v", form, whole, found)
		}
		if !formOf(watches, form+"&_task=login") || !formOf(watches, "_task=login&"+form) {
			t.Fatalf("%q hides a login", form)
		}
		q := parts{watches: watches}
		// The first may be one itself; whatever it is, it hides no second.
		if !q.feed([]byte(form)) && !q.feed([]byte("\r\nContent-Disposition: form-data;\rname=_task\r\n")) {
			t.Fatalf("%q hides a field", form)
		}
	})
}

// Other sites cannot send forms, and no other page opens a WebSocket.
func TestForeignForms(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	for _, c := range []struct {
		method  string
		headers []string
		want    int
	}{
		{"POST", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://id.test"}, 403},
		{"POST", []string{"Origin", "https://evil.test"}, 403},
		{"POST", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"GET", []string{"Sec-Fetch-Site", "cross-site"}, 200},
		{"GET", []string{"Connection", "Upgrade", "Upgrade", "websocket", "Origin", "https://evil.test"}, 403},
		{"GET", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, 403},
	} {
		if resp := s.do(s.request(c.method, "/", "", c.headers...)); resp.StatusCode != c.want {
			t.Errorf("%v: %d", c, resp.StatusCode)
		}
	}
}

// Smuggling: two readers of one connection must not see two requests where one is.
func TestSmuggling(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	host := strings.TrimPrefix(b.gate.o.PublicURL, "http://")
	cookie := "Cookie: letterlock-mail=" + s.jar["letterlock-mail"] + "\r\n"
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	for name, request := range map[string]string{
		"two lengths":         "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: 0\r\nContent-Length: 44\r\n" + cookie + "\r\n" + smuggled,
		"a signed length":     "POST / HTTP/1.1\r\nHost: H\r\nContent-Length: +0\r\n" + cookie + "\r\n" + smuggled,
		"an odd encoding":     "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: xchunked\r\n" + cookie + "\r\n" + smuggled,
		"a folded encoding":   "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding:\r\n chunked, identity\r\n" + cookie + "\r\n" + smuggled,
		"a blank in a name":   "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding : chunked\r\n" + cookie + "\r\n" + smuggled,
		"two hosts":           "GET / HTTP/1.1\r\nHost: H\r\nHost: evil.test\r\n" + cookie + "\r\n",
		"no host":             "GET / HTTP/1.1\r\n" + cookie + "\r\n",
		"another host":        "GET / HTTP/1.1\r\nHost: evil.test\r\n" + cookie + "\r\n",
		"a bare CR in a name": "GET / HTTP/1.1\r\nHost: H\r\nX\rY: 1\r\n" + cookie + "\r\n",
		"a NUL in a value":    "GET / HTTP/1.1\r\nHost: H\r\nX-Y: \x00\r\n" + cookie + "\r\n",
		"a chunk that lies":   "POST / HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n" + cookie + "\r\n-1\r\n\r\n" + smuggled,
		"huge headers":        "GET / HTTP/1.1\r\nHost: H\r\nX-Y: " + strings.Repeat("y", 2<<20) + "\r\n" + cookie + "\r\n",
	} {
		b.arrivals() // of the request before
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(conn, strings.Replace(request, "Host: H", "Host: "+host, 1)) }()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil && resp.StatusCode < 400 {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
		conn.Close()
		if b.arrivals() != 0 {
			t.Errorf("%s: the web mail was asked", name)
		}
	}
	// With a length and chunks the chunks count (RFC 9112 section 6.3), and the upstream gets
	// one framing only: what stands behind them is a request of its own, without a session.
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /both HTTP/1.1\r\nHost: %s\r\nContent-Length: 400\r\nTransfer-Encoding: chunked\r\n%s\r\n0\r\n\r\n%s", host, cookie, smuggled)
	answers := bufio.NewReader(conn)
	for _, want := range []int{http.StatusOK, http.StatusSeeOther} {
		resp, err := http.ReadResponse(answers, nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("length and chunks: %v, %v, want %d", resp, err, want)
		}
		if want == http.StatusOK {
			if e := s.echoed(resp); e.URI != "/both" || e.Body != "" || e.Header.Get("Content-Length") == "400" {
				t.Errorf("length and chunks: the upstream saw %+v", e)
			}
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
	}
	// h2c is no way around the checks: the upstream sees no Upgrade.
	e := s.echoed(s.get("/", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "Http2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"))
	if e.Header.Get("Upgrade") != "" || e.Header.Get("Http2-Settings") != "" {
		t.Errorf("the upstream saw %v", e.Header)
	}
}

// The web mail's "no" is never a form for a password.
func TestRefusedByMailServer(t *testing.T) {
	b := newBench(t, nil)
	b.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Www-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `<form><input type="password"></form>`)
	}
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	resp := s.get("/")
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusBadGateway || strings.Contains(string(body), "<form") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

type networkGate struct{ deny netip.Prefix }

func (g networkGate) Refused(_ context.Context, a netip.Addr) bool {
	return g.deny.Contains(a)
}

func (networkGate) Ask(context.Context, netip.Addr) bool {
	return false
}

// Networks: those that are denied, and all but those that are named, see nothing; a header
// moves nobody unless a listed proxy wrote it.
func TestNetworks(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Inside = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	s := b.surfer()
	if resp := s.get("/", "X-Forwarded-For", "192.0.2.1"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("from outside: %d", resp.StatusCode)
	}
	b = newBench(t, func(o *Options) {
		o.Inside = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		o.Proxies = web.Proxies{netip.MustParsePrefix("127.0.0.1/32")}
		o.Gate = networkGate{netip.MustParsePrefix("192.0.2.66/32")}
	})
	s = b.surfer()
	for from, want := range map[string]int{"192.0.2.1": 303, "198.51.100.1": 403, "192.0.2.66": 403} {
		if resp := s.get("/", "X-Forwarded-For", from); resp.StatusCode != want {
			t.Errorf("from %s: %d", from, resp.StatusCode)
		}
	}
}
