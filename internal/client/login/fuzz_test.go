package login

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

const fuzzState = "0123456789abcdef0123456789abcdef"

func fuzzAttempt() attempt {
	conn := &oauth.Conn{Endpoints: oauth.Endpoints{
		Issuer: "https://login.test", Authorization: "https://login.test/authorize", IssParameter: true,
	}}
	return attempt{
		req: Request{Conn: conn}, redirectURI: "http://localhost:1234/cb",
		state: fuzzState, verifier: secret.New("verifier"),
	}
}

// FuzzCallback sends whole requests to the listener's handler.
func FuzzCallback(f *testing.F) {
	const good = "?code=abc&state=" + fuzzState + "&iss=https%3A%2F%2Flogin.test"
	for _, seed := range []string{
		"GET /cb" + good + " HTTP/1.1\r\nHost: localhost:1234\r\n\r\n",
		"GET /cb" + good + " HTTP/1.1\r\nHost: evil.test\r\n\r\n",
		"HEAD /cb" + good + " HTTP/1.1\r\nHost: localhost:1234\r\n\r\n",
		"GET /cb" + good + "&code=2 HTTP/1.1\r\nHost: localhost:1234\r\n\r\n",
		"GET /cb?error=<b>&state=" + fuzzState + "&iss=https%3A%2F%2Flogin.test HTTP/1.1\r\nHost: localhost:1234\r\n\r\n",
		"GET http://localhost:1234/cb" + good + " HTTP/1.1\r\nHost: localhost:1234\r\nContent-Length: 3\r\n\r\nabc",
	} {
		f.Add(seed)
	}
	pages := map[string]bool{"": true}
	for say := strayMessage; say <= lateMessage; say++ {
		pages[string(page("Letterlock", say))] = true
	}
	f.Fuzz(func(t *testing.T, request string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
		if err != nil {
			return
		}
		hits := newCallback("Letterlock", "localhost:1234", "/cb", fuzzAttempt().check)
		recorder := httptest.NewRecorder()
		hits.ServeHTTP(recorder, r)
		if body := recorder.Body.String(); !pages[body] {
			t.Errorf("a page of its own: %q", body)
		}
		header := recorder.Header()
		if header.Get("Location") != "" || header.Get("Set-Cookie") != "" || !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("header %v", header)
		}
		if accepted := len(hits.answers) == 1; accepted != (recorder.Code == http.StatusOK) {
			t.Errorf("status %d, accepted %v", recorder.Code, accepted)
		} else if accepted && (r.Method != "GET" || strings.ToLower(r.Host) != "localhost:1234" || r.URL.Query().Get("state") != fuzzState) {
			t.Errorf("accepted %q", request)
		}
	})
}

// FuzzPaste reads two lines as a person may paste them.
func FuzzPaste(f *testing.F) {
	const good = "http://localhost:1234/cb?code=abcd&state=" + fuzzState + "&iss=https%3A%2F%2Flogin.test"
	for _, seed := range [][2]string{
		{good, ""},
		{good[:40], good[40:]},
		{good[:50], good[50:]},
		{`"` + good + "\"\r\n", ""},
		{"localhost:1234/cb?" + good[26:], "4/0AX%2Fcode"},
		{"<html>", "<" + good + ">"},
		{"https://login.test/authorize?x", "\x1b[200~?code=a&state=b\x1b[201~"},
		{"//[::1", "http://%zz/?code="},
	} {
		f.Add(seed[0], seed[1])
	}
	try := fuzzAttempt()
	f.Fuzz(func(t *testing.T, first, second string) {
		begun := ""
		for _, line := range []string{first, second} {
			answer, why := try.read(begun, line)
			if why != nil {
				if why.why != strings.ToValidUTF8(why.why, "") || strings.ContainsAny(why.why, "\x1b\r\n") || len(begun) > 2*maxPaste {
					t.Errorf("refusal %q", why.why)
				}
				begun = why.begun
				continue
			}
			checkPasted(t, begun+line, answer)
			return
		}
	})
}

func checkPasted(t *testing.T, text string, answer oauth.Callback) {
	t.Helper()
	code := answer.Code.Reveal()
	if (code == "") == (answer.Err == nil) || len(code) > maxPaste {
		t.Errorf("%q gave code %q and error %v", text, code, answer.Err)
	}
	// An answer with parameters has the right state; without, it is a bare code.
	if answer.State != fuzzState && (answer.State != "" || strings.Contains(text, "://")) {
		t.Errorf("%q was accepted with state %q", text, answer.State)
	}
	if _, err := url.PathUnescape(code); answer.State == "" && strings.ContainsAny(code, " \n\x1b") {
		t.Errorf("code %q: %v", code, err)
	}
}
