package login

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

func TestBrowser(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	run := start(t, t.Context(), Browser, server.request())
	address := run.opened()
	if shown := <-run.person.shows; shown != address {
		t.Errorf("shown %q, opened %q", shown, address)
	}
	back := server.approve(address)
	status, body := get(t, back.String())
	if status != 200 || !strings.Contains(body, "close this window") || !strings.HasSuffix(body, "</html>\n") {
		t.Errorf("the person saw %d %q", status, body)
	}
	run.succeeds(address)
	if conn, err := net.Dial("tcp", back.Host); err == nil {
		conn.Close()
		t.Error("the listener is still there")
	}
	if told := run.person.told(); told != "" {
		t.Errorf("told %q", told)
	}
}

// A listener on [::1] is what "localhost" may lead to.
func TestBrowserHitOnIPv6Only(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	req := server.request()
	req.Redirect = provider.Redirect{URI: "http://localhost/", AnyPort: true}
	run := start(t, t.Context(), Browser, req)
	address := run.opened()
	back := server.approve(address)
	answer := raw(t, net.JoinHostPort("::1", back.Port()), "GET "+back.RequestURI()+" HTTP/1.1\r\nHost: "+back.Host+"\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Errorf("answer %q", answer)
	}
	run.succeeds(address)
}

func TestBrowserRedirects(t *testing.T) {
	free := strconv.Itoa(freePort(t))
	tests := []struct {
		name     string
		redirect provider.Redirect
		want     string // redirect_uri sent
	}{
		{"none", provider.Redirect{AnyPort: true}, `^http://127\.0\.0\.1:\d+$`},
		{"google", provider.Redirect{URI: "http://127.0.0.1", AnyPort: true}, `^http://127\.0\.0\.1:\d+$`},
		{"microsoft", provider.Redirect{URI: "http://localhost/", AnyPort: true}, `^http://localhost:\d+/$`},
		{"ipv6", provider.Redirect{URI: "http://[::1]/cb", AnyPort: true}, `^http://\[::1\]:\d+/cb$`},
		{"path as registered", provider.Redirect{URI: "http://127.0.0.1/a%20b", AnyPort: true}, `^http://127\.0\.0\.1:\d+/a%20b$`},
		{"port of no meaning", provider.Redirect{URI: "http://localhost:1/", AnyPort: true}, `^http://localhost:([2-9]|\d\d+)/$`},
		{"random path", provider.Redirect{URI: "http://127.0.0.1/", AnyPort: true, AnyPath: true}, `^http://127\.0\.0\.1:\d+/[a-z2-7]{26}$`},
		{"registered by us", NewRedirect(), `^http://127\.0\.0\.1:\d+/[a-z2-7]{26}$`},
		{"fixed", provider.Redirect{URI: "http://localhost:" + free + "/back", Fixed: true, AnyPath: true}, `^http://localhost:` + free + `/back$`},
		{"port given", provider.Redirect{URI: "http://localhost:" + free}, `^http://localhost:` + free + `$`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			server := newFakeServer(t)
			req := server.request()
			req.Redirect = test.redirect
			run := start(t, t.Context(), Browser, req)
			address := run.opened()
			if sent := server.asked(address).Get("redirect_uri"); !regexp.MustCompile(test.want).MatchString(sent) {
				t.Errorf("redirect_uri %q, want %s", sent, test.want)
			}
			if status, _ := get(t, server.approve(address).String()); status != 200 {
				t.Errorf("status %d", status)
			}
			run.succeeds(address)
		})
	}
}

func TestBrowserRefusesBadRedirects(t *testing.T) {
	noLeaks(t)
	for _, uri := range []string{
		"localhost", "http://127.0.0.1/?a=b", "http://127.0.0.1/#x", "http://me@127.0.0.1/", "http://127.0.0.1:0/",
		"http://127.0.0.1:99999/", "http://127.0.0.1:x/", "://", "http://\x7f/",
	} {
		req := Request{Conn: &oauth.Conn{}, Redirect: provider.Redirect{URI: uri, Fixed: true}}
		for name, flow := range map[string]flowFunc{"browser": Browser, "paste": Paste} {
			_, err := flow(t.Context(), req, newFakePerson())
			var fault *cli.Fault
			if !errors.As(err, &fault) || fault.Code != cli.Config {
				t.Errorf("%s with %q: %v", name, uri, err)
			}
		}
	}
}

// A busy port of a registered redirect is named; neither family may be another's.
func TestBrowserPortBusy(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			noLeaks(t)
			taken, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			port := strconv.Itoa(portOf(taken))
			req := newFakeServer(t).request()
			req.Redirect = provider.Redirect{URI: "http://localhost:" + port + "/", Fixed: true}
			person := newFakePerson()
			_, err = Browser(t.Context(), req, person)
			var fault *cli.Fault
			if !errors.As(err, &fault) || fault.Code != cli.TempFail || !strings.Contains(fault.What, "port "+port) || fault.Hint == "" {
				t.Errorf("error %v", err)
			}
			if len(person.opens) != 0 {
				t.Error("the browser was opened")
			}
		})
	}
}

// What no listener can receive is pasted.
func TestBrowserFallsBackToPaste(t *testing.T) {
	denied := func(context.Context, int) ([]net.Listener, error) {
		return nil, fmt.Errorf("listen: %w", fs.ErrPermission)
	}
	tests := []struct {
		name, uri string
		explained string
	}{
		{"https on localhost", "https://localhost", "certificate"},
		{"page of the provider", "https://login.test/nativeclient", "not on this computer"},
		{"private scheme", "org.example:/cb", "not on this computer"},
		{"low port", "http://localhost/", "administrator"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			server := newFakeServer(t)
			req := server.request()
			req.Redirect = provider.Redirect{URI: test.uri, Fixed: true}
			person := newFakePerson()
			person.answer = func(n int) string {
				if n > 1 {
					t.Errorf("asked %d times", n)
					return ""
				}
				address := <-person.opens
				if sent := server.asked(address).Get("redirect_uri"); sent != test.uri {
					t.Errorf("redirect_uri %q", sent)
				}
				return server.approve(address).String()
			}
			token, err := browser(t.Context(), req, person, denied)
			if err != nil || token.Access.IsZero() {
				t.Errorf("error %v", err)
			}
			if told := person.told(); !strings.Contains(told, test.explained) {
				t.Errorf("told %q", told)
			}
		})
	}
}

func TestBrowserByHand(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	run := &run{t: t, person: newFakePerson(), result: make(chan result, 1)}
	run.person.opens = nil
	go func() {
		token, err := Browser(t.Context(), server.request(), run.person)
		run.result <- result{token, err}
	}()
	address := <-run.person.shows
	get(t, server.approve(address).String())
	run.succeeds(address)
	if told := run.person.told(); !strings.Contains(told, "by hand") || strings.Contains(told, "\x1b") {
		t.Errorf("told %q", told)
	}
}

func TestBrowserProviderSaysNo(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	run := start(t, t.Context(), Browser, server.request())
	asked := server.asked(run.opened())
	back := server.redirect(asked, url.Values{"error": {"access_denied"}, "error_description": {"not <b>today</b>"}})
	status, body := get(t, back.String())
	if status != 200 || strings.Contains(body, "today") || !strings.Contains(body, "said no") {
		t.Errorf("the person saw %d %q", status, body)
	}
	_, err := run.ended()
	var answer *oauth.Error
	if !errors.As(err, &answer) || answer.Code != "access_denied" {
		t.Errorf("error %v", err)
	}
}

// A code that the token endpoint does not know comes out as its error.
func TestBrowserExchangeFails(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	run := start(t, t.Context(), Browser, server.request())
	back := server.redirect(server.asked(run.opened()), url.Values{"code": {"stolen"}})
	get(t, back.String())
	_, err := run.ended()
	var answer *oauth.Error
	if !errors.As(err, &answer) || answer.Code != "invalid_grant" {
		t.Errorf("error %v", err)
	}
}

func TestBrowserTimeout(t *testing.T) {
	noLeaks(t)
	req := newFakeServer(t).request()
	req.Timeout = time.Millisecond
	_, err := Browser(t.Context(), req, newFakePerson())
	var fault *cli.Fault
	if !errors.As(err, &fault) || fault.Code != cli.NoPerm || !errors.Is(err, ErrNobody) {
		t.Errorf("error %v", err)
	}
}

func TestBrowserInterrupted(t *testing.T) {
	noLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	run := start(t, ctx, Browser, newFakeServer(t).request())
	run.opened()
	cancel()
	if _, err := run.ended(); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Without an authorization endpoint nothing is opened and nothing left behind.
func TestBrowserNoEndpoint(t *testing.T) {
	noLeaks(t)
	req := newFakeServer(t).request()
	req.Conn.Endpoints.Authorization = ""
	for name, flow := range map[string]flowFunc{"browser": Browser, "paste": Paste} {
		person := newFakePerson()
		if _, err := flow(t.Context(), req, person); err == nil || len(person.opens)+len(person.shows) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// freePort is one that the system gives to no other program of itself.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		ports, err := lab.FreePorts(1)
		if err != nil {
			t.Fatal(err)
		}
		listeners, err := listenBoth(t.Context(), ports[0])
		if err != nil {
			continue // free on IPv4 only
		}
		for _, l := range listeners {
			l.Close()
		}
		return ports[0]
	}
}

// Consent may cover more than one token can hold.
func TestBrowserNamesTokenScopes(t *testing.T) {
	noLeaks(t)
	server := newFakeServer(t)
	req := server.request()
	req.TokenScopes = []string{"mail"}
	run := start(t, t.Context(), Browser, req)
	address := run.opened()
	asked, err := url.Parse(address)
	if err != nil || asked.Query().Get("scope") != "mail offline_access" {
		t.Errorf("consent is asked at %s: %v", address, err)
	}
	get(t, server.approve(address).String())
	run.succeeds(address)
	if got := server.tokens[0].Get("scope"); got != "mail" {
		t.Errorf("the token was asked for %q", got)
	}
}
