package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A web server that asks first gets the header, or a no.
func TestAsked(t *testing.T) {
	b := newBench(t, nil)
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	asked := b.gate.Asked()
	ask := func(cookie, uri string) *http.Response {
		r := s.request(http.MethodGet, "/", "", "X-Original-Uri", uri)
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		r.RemoteAddr = "127.0.0.1:9"
		asked.ServeHTTP(w, r)
		return w.Result()
	}
	mine := "letterlock-mail=" + s.jar["letterlock-mail"]
	// PHP takes parameters from cookies too.
	resp := ask(mine+"; roundcube_sessid=x; letterlock=pages; Letterlock_mail=1; _task=login; .action=%6cogin", "/?_task=mail")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Letterlock-User") != "ann@try.test" || resp.Header.Get("X-Letterlock-Cookie") != "roundcube_sessid=x" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	// One word for one session, which says nothing of its cookie.
	word := resp.Header.Get("X-Letterlock-Session")
	if again := ask(mine, "/").Header.Get("X-Letterlock-Session"); len(word) != 22 || again != word || strings.Contains(mine, word) {
		t.Errorf("the session is %q, then %q", word, again)
	}
	b.sit("bob")
	other := b.surfer()
	other.open("/")
	if his := ask("letterlock-mail="+other.jar["letterlock-mail"], "/").Header.Get("X-Letterlock-Session"); his == word || his == "" {
		t.Errorf("another session is %q too", his)
	}
	ticketOf(t, echo{Header: http.Header{"Authorization": {resp.Header.Get("X-Letterlock-Authorization")}}})
	for _, c := range []struct {
		origin, site string
		want         int
	}{
		{"https://blog.try.test", "same-site", 401}, {"https://evil.test", "cross-site", 401}, {"https://evil.test", "", 401}, {"null", "cross-site", 401},
		{b.gate.o.PublicURL, "same-origin", 200}, {b.gate.o.PublicURL, "", 200}, {"", "cross-site", 200}, {"", "none", 200},
	} {
		r := s.request(http.MethodGet, "/", "", "X-Original-Uri", "/?_task=mail&_action=send")
		r.Header.Set("Cookie", mine)
		r.RemoteAddr, r.Host = "127.0.0.1:9", "127.0.0.1:8082"
		for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		if asked.ServeHTTP(w, r); w.Code != c.want {
			t.Errorf("by %q, %q: %d", c.origin, c.site, w.Code)
		}
	}
	for _, c := range []struct {
		cookie, uri string
		want        int
	}{
		{"", "/", 401}, {"letterlock-mail=" + strings.Repeat("A", 43), "/", 401}, {mine, "/?_task=login", 401}, {mine, "/installer/", 401}, {mine, "relative", 401}, {mine, "", 401}, {mine, "/x/../installer/", 401},
		{mine, "/%69nstaller", 401}, {mine, "/?x=1&%5ftask=LOGIN", 401}, {mine, "/xmlrpc.php", 401},
	} {
		if resp := ask(c.cookie, c.uri); resp.StatusCode != c.want || resp.Header.Get("X-Letterlock-Authorization") != "" {
			t.Errorf("%+v: %d", c, resp.StatusCode)
		}
	}
}

// TestAskedAlone is a gateway without a web mail of its own: the server in front has it, and
// sends here whom it was told to.
func TestAskedAlone(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Upstream = nil })
	b.sit("ann")
	s := b.surfer()
	s.open("/")
	for _, c := range []struct {
		method, path string
		headers      []string
		want         int
		says         string
	}{
		{http.MethodGet, "/?_task=login", nil, http.StatusSeeOther, ""},
		{http.MethodGet, "/installer/", nil, http.StatusNotFound, "no such page"},
		{http.MethodPost, "/?_task=mail", []string{"Origin", "https://evil.test"}, http.StatusForbidden, "another site"},
		{http.MethodGet, "/", []string{"X-Letterlock-Asked", "200"}, http.StatusBadGateway, "did not let the web mail in"},
		{http.MethodGet, "/ws", []string{"Origin", "https://evil.test"}, http.StatusForbidden, "another site"},
		{http.MethodGet, "/", nil, http.StatusServiceUnavailable, "still signed in"},
	} {
		resp := s.do(s.request(c.method, c.path, "", c.headers...))
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != c.want || !strings.Contains(string(body), c.says) {
			t.Errorf("%s %s %q: %d %.300s", c.method, c.path, c.headers, resp.StatusCode, body)
		}
	}
}
