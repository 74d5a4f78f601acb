package signin

import (
	"bufio"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// answer goes to the provider and returns the address it sends the browser back to.
func (b *browser) answer(way string) string {
	b.h.t.Helper()
	at := b.walk(way, "/callback?").at
	if value(at, "code") == "" || value(at, "state") == "" {
		b.h.t.Fatalf("no answer from the provider: %s", at)
	}
	return at
}

// bind makes ann's account hers before she comes.
func (h *house) bind(subject string, p identity.Person) {
	h.store.bindings[[2]string{h.at, subject}] = identity.Binding{Issuer: h.at, Subject: subject, Person: p.ID}
}

// What attackers do with answers of the provider: each leaves the browser signed out.
func TestAnswersThatBelongToNobody(t *testing.T) {
	// Answers that find no journey are not even shown to the provider: a code that belongs
	// elsewhere is given to nobody.
	unasked := map[string]bool{"another browser's answer (login CSRF)": true, "at another provider's path (mix-up)": true, "too late": true, "no state": true, "an iss of another issuer": true}
	for name, attack := range map[string]func(t *testing.T, h *house) (*browser, seen){
		"another browser's answer (login CSRF)": func(_ *testing.T, h *house) (*browser, seen) {
			answer := h.browser().answer("/signin/github")
			victim := h.browser()
			return victim, victim.walk(answer, "")
		},
		"another browser's answer, with a sign-in of one's own under way": func(_ *testing.T, h *house) (*browser, seen) {
			answer := h.browser().answer("/signin/github")
			victim := h.browser()
			victim.answer("/signin/github")
			return victim, victim.walk(answer, "")
		},
		"another's code with one's own state (code injection)": func(_ *testing.T, h *house) (*browser, seen) {
			stolen := h.browser().answer("/signin/github")
			mallory := h.browser()
			own := mallory.answer("/signin/github")
			return mallory, mallory.walk(swap(own, "code", value(stolen, "code")), "")
		},
		"no state": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			return b, b.walk(swap(b.answer("/signin/github"), "state", ""), "")
		},
		"two states": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			return b, b.walk(b.answer("/signin/github")+"&state=x", "")
		},
		"two codes": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			return b, b.walk(b.answer("/signin/github")+"&code=x", "")
		},
		"an invented code": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			return b, b.walk(swap(b.answer("/signin/github"), "code", "invented"), "")
		},
		"neither code nor error": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			return b, b.walk(swap(b.answer("/signin/github"), "code", ""), "")
		},
		"after the browser's cookie is gone": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			answer := b.answer("/signin/github")
			b.jar = map[string]string{}
			return b, b.walk(answer, "")
		},
		"too late": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			answer := b.answer("/signin/github")
			h.now = h.now.Add(flowLife)
			return b, b.walk(answer, "")
		},
		"at another provider's path (mix-up)": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			answer := b.answer("/signin/github")
			return b, b.walk(strings.Replace(answer, "/signin/github/", "/signin/other/", 1), "")
		},
		"an iss of another issuer": func(t *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			s := b.walk(b.answer("/signin/other")+"&iss=https%3A%2F%2Fevil.test", "")
			return b, s
		},
		"a query that is none": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			return b, b.walk(b.answer("/signin/github")+"&a=%zz", "")
		},
		"an endless query": func(_ *testing.T, h *house) (*browser, seen) {
			b := h.browser()
			return b, b.walk(b.answer("/signin/github")+"&a="+strings.Repeat("a", 20<<10), "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.bind("583231", h.person("ann@example.org"))
			h.github.Sit(ann())
			h.twoEntrances()
			b, s := attack(t, h)
			if b.signedIn() || s.code != http.StatusForbidden || len(h.store.sessions) != 0 {
				t.Errorf("signed in %t: %d %s", b.signedIn(), s.code, s.body)
			}
			if asked := slices.Contains(h.github.Asked(), "POST /login/oauth/access_token"); asked && unasked[name] {
				t.Error("the code was shown to the provider")
			}
		})
	}
}

// twoEntrances are two apps at one GitHub server. The straight way stays /signin/github.
func (h *house) twoEntrances() {
	make := func(name string) Entrance {
		return Entrance{Name: name, Provider: NewGitHub(GitHubOptions{
			URL: h.at, API: h.at + "/api/v3", ClientID: "app", Secret: hush(), HTTP: httpClient(), Now: func() time.Time { return h.now },
		})}
	}
	h.github.Callback = public + "/signin"
	h.serve(make("github"), make("other"))
}

func value(place, name string) string {
	u, _ := url.Parse(place)
	return u.Query().Get(name)
}

func swap(place, name, value string) string {
	u, _ := url.Parse(place)
	q := u.Query()
	if q.Set(name, value); value == "" {
		q.Del(name)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// An answer is good once: neither "back" in the browser nor a stolen address does it again.
func TestAnswerOnce(t *testing.T) {
	h := newHouse(t)
	h.bind("583231", h.person("ann@example.org"))
	h.github.Sit(ann())
	b := h.browser()
	answer := b.answer("/signin")
	before := map[string]string{}
	for name, value := range b.jar {
		before[name] = value
	}
	if s := b.walk(answer, ""); !strings.HasPrefix(s.body, "home of") {
		t.Fatalf("%+v", s)
	}
	if _, still := b.jar["__Host-"+browserCookie]; still {
		t.Error("the cookie of the sign-in stays behind")
	}
	thief := h.browser()
	thief.jar = before
	if s := thief.walk(answer, ""); s.code != http.StatusForbidden || thief.signedIn() {
		t.Errorf("twice: %+v", s)
	}
	if len(h.store.once) != 0 {
		t.Error("something is left of the journey")
	}
}

// A wrong answer spends nothing: the browser's own is good after it.
func TestWrongAnswerSpendsNothing(t *testing.T) {
	h := newHouse(t)
	h.bind("583231", h.person("ann@example.org"))
	h.github.Sit(ann())
	b := h.browser()
	answer := b.answer("/signin")
	h.browser().walk(answer, "")                         // somebody else with the very address
	b.walk(public+"/signin/github/callback?state=x", "") // and nonsense in this browser
	if s := b.walk(answer, ""); !strings.HasPrefix(s.body, "home of") {
		t.Errorf("%+v", s)
	}
}

// The session of before is gone, and its id is not used again.
func TestNewSession(t *testing.T) {
	h := newHouse(t)
	h.bind("583231", h.person("ann@example.org"))
	h.bind("2", h.person("kate@example.org"))
	h.github.Sit(ann())
	b := h.browser()
	b.signIn()
	first := b.jar["__Host-letterlock"]
	h.github.Sit(&fakegithub.Person{ID: 2, Login: "kate"})
	if s := b.walk("/signin/github", ""); !strings.HasPrefix(s.body, "home of kate@") {
		t.Fatalf("%+v", s)
	}
	old := h.browser()
	old.jar["__Host-letterlock"] = first
	if b.jar["__Host-letterlock"] == first || old.signedIn() || len(h.store.sessions) != 1 {
		t.Error("the session of before is still good")
	}
	if s := b.one(http.MethodPost, public+"/signout", url.Values{}); s.code != http.StatusOK || b.signedIn() || len(h.store.sessions) != 0 {
		t.Errorf("after signing out: %+v", s)
	}
}

// Wherever "back" leads, it leads not away.
func TestOpenRedirects(t *testing.T) {
	file, err := os.Open("testdata/back.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	count := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		back, err := strconv.Unquote(lines.Text())
		if err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		count++
		h := newHouse(t)
		h.bind("583231", h.person("ann@example.org"))
		h.github.Sit(ann())
		for _, way := range []string{"/signin?back=", "/signin/github?back="} {
			b := h.browser()
			if s := b.walk(way+url.QueryEscape(back), ""); s.at != public+"/" || s.code != http.StatusOK {
				t.Errorf("%s%q leads to %s (%d)", way, back, s.at, s.code)
			}
			// Signed in already, the chooser goes back at once.
			if s := b.walk("/signin?back="+url.QueryEscape(back), ""); s.at != public+"/" {
				t.Errorf("signed in, %q leads to %s", back, s.at)
			}
		}
	}
	if count < 30 {
		t.Errorf("only %d lines in the table", count)
	}
}

func TestChooser(t *testing.T) {
	h := newHouse(t)
	h.twoEntrances()
	s := h.browser().walk("/signin?back=%2Fx", "")
	if s.code != http.StatusOK || !strings.Contains(s.body, `href="/signin/github?back=%2Fx"`) || !strings.Contains(s.body, `href="/signin/other?back=%2Fx"`) {
		t.Errorf("%d %s", s.code, s.body)
	}
	if policy := s.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy %q", policy)
	}
	h.serve()
	if s := h.browser().walk("/signin", ""); !strings.Contains(s.body, "no way to sign in yet") {
		t.Errorf("%s", s.body)
	}
	if s := h.browser().walk("/signin/nothing", ""); s.code != http.StatusNotFound {
		t.Errorf("%d", s.code)
	}
}

func TestNewRefuses(t *testing.T) {
	h := newHouse(t)
	for name, bad := range map[string][]Entrance{
		"no name":        {{Provider: NewGitHub(GitHubOptions{})}},
		"capitals":       {{Name: "GitHub", Provider: NewGitHub(GitHubOptions{})}},
		"slash":          {{Name: "a/b", Provider: NewGitHub(GitHubOptions{})}},
		"reserved":       {{Name: "invitation", Provider: NewGitHub(GitHubOptions{})}},
		"twice":          {{Name: "a", Provider: NewGitHub(GitHubOptions{})}, {Name: "a", Provider: NewGitHub(GitHubOptions{})}},
		"no provider":    {{Name: "a"}},
		"makes, no bind": {{Name: "a", Provision: true, Provider: NewGitHub(GitHubOptions{})}},
	} {
		if _, err := New(Options{Sessions: h.sessions, Store: h.store, Now: time.Now, Random: strings.NewReader(""), Log: quiet(), Entrances: bad}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
