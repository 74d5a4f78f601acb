package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/lab/authenticator"
	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/signin"
)

// was is the error of an answer that is not the one that was wanted.
func was(got, want int) error {
	if got != want {
		return fmt.Errorf("the answer is %d, not %d", got, want)
	}
	return nil
}

// Each way in and out changes nothing without its line of the audit trail.
func signInsAreWhole(t *testing.T, place string, sabotage func() *saboteur) {
	h := newHallOn(t, place, "[factors]\nsecond_factor = \"required\"\n")
	s := sabotage()
	v, device := h.visitor(), authenticator.New(h.public)
	answered := func() error { return was(v.status, http.StatusOK) }
	s.step("the first administrator", "person.added", func() {
		link, err := signin.FirstLink(t.Context(), h.p.db, h.p.random, h.public, h.p.now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		v = h.visitor()
		v.get(link.Reveal()).want(200, "/signin/first")
	}, func() error { v.send("/signin/first", "address", "boss@example.org"); return answered() })
	s.step("an invitation by passkey", "signin.bound", func() { v.get("/signin/invitation").want(200, "/signin/invitation") },
		func() error { v.make(device, "/signin/invitation/passkey", "Ring"); return answered() })

	v.want(200, "/security").send("/security/recovery").want(200, "/security/recovery")
	codes := regexp.MustCompile(`[0-9a-z]{5}-[0-9a-z-]{17}`).FindAllString(v.page, -1)
	s.step("a recovery code", "recovery.used", func() { v = h.visitor(); v.get("/signin/recover") }, func() error {
		v.send("/signin/recover", "address", "boss@example.org", "code", codes[0])
		return answered()
	})

	seed := ""
	s.step("a second factor at sign-in", "factor.added", func() {
		v = h.visitor()
		v.github().want(200, "/signin/enrol")
		seed = strings.ReplaceAll(regexp.MustCompile(`class="secret">([A-Z2-7 ]+)<`).FindStringSubmatch(v.page)[1], " ", "")
	}, func() error { v.send("/signin/enrol", "code", h.code(seed)); return answered() })
	s.step("a sign-in by two factors", "factor.proved", func() {
		h.later += time.Minute // codes are good once
		v = h.visitor()
		v.github().want(200, "/signin/factor")
	}, func() error { v.send("/signin/factor", "code", h.code(seed)); return answered() })
	s.step("a fresh proof", "factor.proved", func() {
		h.later += time.Minute
		v.get("/signin/again").want(200, "/signin/again")
	}, func() error { v.send("/signin/again", "code", h.code(seed)); return answered() })
	out := &seat{}
	s.step("a sign-out", "signout", func() { out = h.sit("ann@example.org") }, func() error {
		res, _ := out.do(http.MethodPost, "/signout", nil)
		return was(res.StatusCode, http.StatusOK)
	})

	h.must("person", "add", "zoe@example.org")
	h.github.Sit(&fakegithub.Person{ID: 8, Login: "zoe"})
	s.step("an invitation", "signin.bound", func() {
		v = h.visitor()
		v.get(h.must("person", "invite", "zoe@example.org")).want(200, "/signin/invitation")
		v.github().want(200, "/signin/github/callback", "zoe@example.org")
	}, func() error { v.send("/signin/invitation", "decision", "accept"); return answered() })
}

// Each end and beginning of what a program is allowed does the same.
func programsAreWhole(t *testing.T, place string, sabotage func() *saboteur) {
	h := newHallOn(t, place, "[oauth]\nregistration = true\nopen_client = true\n")
	s := sabotage()
	ann := h.sit("ann@example.org")
	var page, id, token, uri string
	var conf *oauth2.Config
	verifier := oauth2.GenerateVerifier()
	begin := func() {
		id, token, uri = h.register("Mutt")
		_, conf = h.peer(id, "", "imap", "smtp", "offline_access")
	}
	begin()
	open := func(where string) func() { return func() { _, page = ann.do(http.MethodGet, where, nil) } }
	press := func(action string, set ...string) func() error {
		return func() error {
			res, _ := ann.press(page, action, set...)
			return was(res.StatusCode, http.StatusSeeOther)
		}
	}
	post := func(where string, want int, form url.Values) error {
		res, _ := ann.do(http.MethodPost, where, form)
		return was(res.StatusCode, want)
	}
	s.step("a consent", "grant.given", open(conf.AuthCodeURL("st", oauth2.S256ChallengeOption(verifier))), press("/consent", "decision", "allow"))
	s.step("a device", "grant.given", func() {
		open("/device?user_code=" + h.userCode())()
		_, page = ann.press(page, "/device")
	}, press("/device/decide", "decision", "allow"))

	allowed := func() (code string, got *oauth2.Token) {
		code = ann.allow(conf.AuthCodeURL("st", oauth2.S256ChallengeOption(verifier))).Get("code")
		got, err := conf.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		return code, got
	}
	var code string
	var got *oauth2.Token
	s.step("a replay", "grant.revoked", func() { code, _ = allowed() }, func() error {
		return post("/token", http.StatusBadRequest, url.Values{"grant_type": {"authorization_code"}, "client_id": {id}, "code": {code},
			"redirect_uri": {conf.RedirectURL}, "code_verifier": {verifier}})
	})
	s.step("a revocation", "grant.revoked", func() { _, got = allowed() }, func() error {
		return post("/revoke", http.StatusOK, url.Values{"client_id": {id}, "token": {got.RefreshToken}})
	})
	s.step("the end of a registration", "grant.revoked", func() { begin(); allowed() }, func() error {
		res, _ := ann.do(http.MethodDelete, uri, nil, "Authorization", "Bearer "+token)
		return was(res.StatusCode, http.StatusNoContent)
	})
	s.step("a sign-out that a program asks for", "signout", func() { ann = h.sit("ann@example.org"); open("/end_session")() }, func() error {
		res, _ := ann.press(page, "/end_session/confirm")
		return was(res.StatusCode, http.StatusOK)
	})
}

// Web mail is opened and closed so too.
func gatewayIsWhole(t *testing.T, database string, sabotage func() *saboteur) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := "http://" + listener.Addr().String()
	h := newHallOn(t, database, fmt.Sprintf("[gateway.webmail]\npublic_url = %q\nlisten = %q\nupstream = %q\n", at, listener.Addr(), at))
	// Another instance, of which only the gateway is asked: the pages are h's.
	l := &plan{conf: h.p.conf, db: h.p.db, log: slog.New(slog.DiscardHandler), now: h.p.now, inner: credential.New(credential.Options{Store: h.p.db, Tokens: h.p.db})}
	if _, err := l.pages(h.p); err != nil {
		t.Fatal(err)
	}
	front := &httptest.Server{Listener: listener, Config: &http.Server{Handler: l.mailGates[0].gateway, ReadHeaderTimeout: time.Minute}}
	front.Start()
	t.Cleanup(front.Close)
	s := sabotage()
	v := h.visitor()
	v.github().want(200, "/")
	// The browser stops where the gateway takes the code, and after that.
	v.client.CheckRedirect = func(next *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(next.URL.Path, "/__letterlock/in") || next.URL.String() == at+"/" {
			return http.ErrUseLastResponse
		}
		return nil
	}
	where, place := "", &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/"}
	depart := func() {
		res, err := v.client.Get(at + "/inbox")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if where = res.Header.Get("Location"); !strings.HasPrefix(where, at+"/__letterlock/in?") {
			t.Fatalf("%s leads to %q", res.Status, where)
		}
	}
	ask := func(where string, want int) error {
		client := *v.client
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		res, err := client.Get(where)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return was(res.StatusCode, want)
	}
	arrive := func() error { return ask(where, http.StatusSeeOther) }
	s.step("opening", "webmail.opened", depart, arrive)
	s.step("closing", "webmail.closed", func() {
		v.client.Jar.SetCookies(place, []*http.Cookie{{Name: "letterlock-mail", Path: "/", MaxAge: -1}})
		v.github().want(200, "/") // a closing ends the sign-in too
		depart()
		if err := arrive(); err != nil {
			t.Fatal(err)
		}
	}, func() error { return ask(at+"/__letterlock/out", http.StatusOK) })
}
