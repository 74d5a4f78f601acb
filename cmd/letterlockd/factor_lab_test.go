//go:build lab

package main

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/letterlock-mail/letterlock/internal/lab/browser"
	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/signin"
)

// A stage is a hall and a Chromium with a passkey device in front of it.
type stage struct {
	*hall
	*browser.Look
	device *browser.Device
}

func newStage(t *testing.T, sections string) *stage {
	t.Helper()
	h := newHall(t, sections)
	b := browser.Run(t, browser.Options{})
	ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
	t.Cleanup(cancel)
	s := &stage{hall: h, Look: browser.NewLook(ctx, t)}
	var err error
	if s.device, err = browser.NewDevice(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// go opens a page of ours.
func (s *stage) goTo(path string) { s.t.Helper(); s.Open(s.public + path) }

// button goes to a button by keyboard and presses it.
func (s *stage) button(text string) {
	s.t.Helper()
	s.TabTo(text, fmt.Sprintf(`e.textContent===%q&&(e.tagName==="BUTTON"||e.tagName==="A")`, text))
	s.Press(kb.Enter)
}

// at waits until the browser is at a path.
func (s *stage) at(path string) { s.t.Helper(); s.Arrive(path) }

func (s *stage) words() string {
	s.t.Helper()
	return browser.Ask[string](s.Look, `document.querySelector("main").innerText`)
}

func (s *stage) says(words ...string) {
	s.t.Helper()
	for _, word := range words {
		if text := s.words(); !strings.Contains(text, word) {
			s.t.Fatalf("%q is not on the page: %s", word, text)
		}
	}
}

// passkey presses a button whose script asks the device; the page that follows comes when
// the device has answered.
func (s *stage) passkey(text, path string) {
	s.t.Helper()
	s.TabTo(text, fmt.Sprintf(`e.textContent===%q&&e.tagName==="BUTTON"`, text))
	s.Type(kb.Enter)
	s.at(path)
}

func (s *stage) field(id, text string) {
	s.t.Helper()
	s.TabTo(id, fmt.Sprintf(`e.id===%q`, id))
	s.Type(text)
}

// From an invitation to the pages of administrators by a passkey, with the keyboard alone;
// then what a copied key, another origin and a device that does not know its owner get.
func TestChromiumPasskey(t *testing.T) {
	s := newStage(t, "")
	s.Size(390, 844, "light")
	s.Open(s.must("person", "invite", "boss@example.org", "--admin"))
	s.Inspect("invitation")
	s.field("passkey-name", "Ring")
	s.passkey("It is mine: make a passkey", "/security")
	s.says("Next time, use the same passkey", "Ring")
	s.Inspect("welcome")
	s.goTo("/admin")
	s.says("boss@example.org")
	s.button("Sign out")
	s.Inspect("signed out")
	s.button("Sign in again")
	s.passkey("Sign in with a passkey", "/")
	s.goTo("/admin")
	s.at("/admin")
	s.Silent("signed in")

	keys, err := s.device.Passkeys()
	if err != nil || len(keys) != 1 || keys[0].RpID != "localhost" || !keys[0].IsResidentCredential {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	// Step up: fresh for fifteen minutes.
	s.later += time.Hour
	s.goTo("/admin")
	s.says("What comes next wants a fresh proof")
	s.passkey("Use a passkey", "/admin")
	s.button("Sign out")

	// The key copied before that last use.
	if err := s.device.Put(keys[0]); err != nil {
		t.Fatal(err)
	}
	s.goTo("/signin")
	s.passkey("Sign in with a passkey", "/signin/passkey")
	s.says("That passkey exists twice")
	if text := s.trail("factor.cloned"); !strings.Contains(text, "boss@example.org") {
		t.Errorf("the trail says %s", text)
	}
	keys[0].SignCount = 100
	if err := s.device.Put(keys[0]); err != nil {
		t.Fatal(err)
	}
	s.otherOrigin()

	// A device that does not know its owner: the browser says so, and the page with it.
	if err := s.device.Verifies(false); err != nil {
		t.Fatal(err)
	}
	s.Heard()
	s.goTo("/signin")
	s.TabTo("the button", `e.textContent==="Sign in with a passkey"`)
	s.Type(kb.Enter)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Minute); !strings.Contains(s.words(), "The passkey was not used"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("the page says %s", s.words())
		}
	}
	s.Inspect("cancelled")
	s.Picture("signin-cancelled-phone")
}

// otherOrigin: a page on another port shares the relying party and relays our question. The
// device answers; the answer says where the browser was, and is refused for that alone.
func (s *stage) otherOrigin() {
	s.t.Helper()
	v := s.visitor().get("/signin")
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!DOCTYPE html><link rel="icon" href="data:,"><main></main><form id="f" action="/got" data-passkey="get" data-options="%s"><input type="hidden" name="answer"><p role="alert"></p><button>Win</button></form><script>document.getElementById("f").submit=()=>{document.querySelector("main").textContent=document.getElementById("f").elements.answer.value}</script><script src="%s/assets/passkey.js"></script>`,
			html.EscapeString(v.options("/signin/passkey")), s.public)
	}))
	defer evil.Close()
	u, err := url.Parse(evil.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Open("http://localhost:" + u.Port())
	browser.Ask[bool](s.Look, `document.querySelector("button").click(),true`)
	answer := ""
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Minute); answer == ""; <-tick.C {
		if answer = browser.Ask[string](s.Look, `document.querySelector("main").textContent`); answer == "" && time.Now().After(deadline) {
			s.t.Fatalf("the device did not answer: %s, %v", browser.Ask[string](s.Look, `document.body.innerText`), s.Heard())
		}
	}
	v.send("/signin/passkey", "answer", answer).want(403, "/signin/passkey", "not known here")
	if _, sessions, _ := s.person("boss@example.org"); len(sessions) != 0 {
		s.t.Error("an answer from another origin signed in")
	}
}

// An authenticator app beside GitHub, by keyboard: set up, asked for, a code once, a recovery
// code once.
func TestChromiumTOTP(t *testing.T) {
	s := newStage(t, "")
	s.Size(1280, 800, "light")
	s.goTo("/signin/github")
	s.at("/")
	s.goTo("/security")
	s.says("You have no second factor")
	s.button("Set up an app")
	seed := strings.ReplaceAll(browser.Ask[string](s.Look, `document.getElementById("key").textContent`), " ", "")
	s.field("code", s.code(seed))
	s.button("Use the app")
	s.says("Added. You are asked for it from now on")
	s.Inspect("app added")
	s.later += time.Minute
	s.button("Make recovery codes")
	s.at("/signin/again")
	s.field("code", s.code(seed))
	s.button("Go on")
	s.at("/security")
	s.button("Make recovery codes")
	s.says("These are shown once")
	recovery, _, _ := strings.Cut(browser.Ask[string](s.Look, `document.getElementById("codes").textContent`), "\n")
	s.Inspect("recovery codes")
	s.button("Sign out")

	s.later += time.Minute
	s.goTo("/signin/github")
	s.at("/signin/factor")
	s.Inspect("second factor")
	code := s.code(seed)
	s.field("code", code)
	s.button("Go on")
	s.at("/")
	if one := s.session("ann@example.org"); one.Factor != identity.ByTOTP || one.How != "github" {
		t.Errorf("%+v", one)
	}
	s.button("Sign out")
	for _, step := range [][2]string{{code, "used already"}, {recovery, ""}} {
		s.goTo("/signin/github")
		s.at("/signin/factor")
		s.field("code", step[0])
		s.button("Go on")
		if step[1] != "" {
			s.says(step[1])
			s.Heard() // Chromium notes the 403
			s.Inspect("replayed")
			s.Picture("signin-factor-replayed-desktop")
		}
	}
	s.at("/")
	s.says("How you sign in has changed lately", "9 left")
	s.button("Sign out")
	s.goTo("/signin/github")
	s.at("/signin/factor")
	s.field("code", recovery)
	s.button("Go on")
	s.says("That was not right")
}

// Each page of sign-in and of second factors, on three screens.
func TestFactorPagesLook(t *testing.T) {
	s := newStage(t, "[factors]\nsecond_factor = \"required\"\n")
	s.Size(390, 844, "light")
	first, err := signin.FirstLink(t.Context(), s.p.db, s.p.random, s.public, s.p.now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ann := s.must("person", "invite", "ann@example.org")
	look := func(name string) {
		t.Helper()
		for _, screen := range []struct {
			name, scheme  string
			width, height int64
		}{{"phone", "light", 390, 844}, {"desktop", "light", 1280, 800}, {"dark", "dark", 390, 844}} {
			s.Size(screen.width, screen.height, screen.scheme)
			s.Inspect(name + " " + screen.name)
			if screen.name != "dark" || name == "signin" {
				s.Picture(name + "-" + screen.name)
			}
		}
		s.Size(390, 844, "light")
	}
	s.Open(first.Reveal())
	look("signin-first")
	boss := s.must("person", "invite", "boss@example.org", "--admin")
	s.goTo("/signin")
	look("signin")
	s.goTo("/signin/recover")
	look("signin-recover")
	s.Open(ann)
	look("signin-invitation")

	// GitHub's account is somebody new's, who answers the invitation with it.
	s.github.Sit(&fakegithub.Person{ID: 8, Login: "octo-boss"})
	s.Open(boss)
	s.button("GitHub")
	s.at("/signin/github/callback")
	look("signin-accept")
	s.button("Accept")
	s.at("/signin/enrol")
	look("signin-enrol")
	s.field("passkey-name", "Security key on the ring")
	s.passkey("Make a passkey", "/")
	look("home-notice")
	s.goTo("/security/passkey")
	look("security-passkey")
	s.goTo("/security/app")
	look("security-app")
	seed := strings.ReplaceAll(browser.Ask[string](s.Look, `document.getElementById("key").textContent`), " ", "")
	s.field("code", s.code(seed))
	s.button("Use the app")
	s.button("Make recovery codes")
	look("security-recovery")
	s.goTo("/security")
	look("security")
	s.later += time.Hour
	s.goTo("/admin")
	s.at("/signin/again")
	look("signin-again")
	s.passkey("Use a passkey", "/admin")
	s.button("Sign out")
	look("signin-out")
	s.goTo("/signin/github")
	s.at("/signin/factor")
	look("signin-factor")
	s.field("code", "123")
	s.button("Go on")
	s.Heard() // Chromium notes the 403
	look("signin-factor-wrong")
	s.Open(s.public + "/signin/first")
	s.Heard()
	look("signin-refused")
}
