package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func shortInterval(o *authserver.Options) { o.DeviceInterval = time.Second }

// decide walks the device pages from the address that the device shows.
func (b *bench) decide(who, page, decision string) answer {
	b.t.Helper()
	browser := b.browser(who)
	entry := b.get(browser, page)
	action, form := fields(b.t, entry.body)
	confirm := b.postRaw(browser, action, form.Encode(), "Origin", b.url)
	if confirm.status != http.StatusOK {
		return confirm
	}
	action, form = fields(b.t, confirm.body)
	form.Set("decision", decision)
	return b.postRaw(browser, action, form.Encode(), "Origin", b.url)
}

func (b *bench) startDevice() (code, userCode string) {
	b.t.Helper()
	a := b.post("/device_authorization", url.Values{"client_id": {"mutt"}, "scope": {"imap smtp"}})
	if a.status != http.StatusOK {
		b.t.Fatalf("device authorization: %d %s", a.status, a.body)
	}
	return a.text(b.t, "device_code"), a.text(b.t, "user_code")
}

func (b *bench) poll(code string, changes ...string) answer {
	b.t.Helper()
	return b.post("/token", changed(url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"mutt"}, "device_code": {code},
	}, changes))
}

func TestDevice(t *testing.T) {
	b := newBench(t)
	code, userCode := b.startDevice()
	b.wantError(b.poll(code), 400, "authorization_pending")
	b.wantError(b.poll(code), 400, "slow_down")
	b.clock.forward(6 * time.Second)
	b.wantError(b.poll(code), 400, "slow_down") // the interval is ten seconds now
	b.clock.forward(16 * time.Second)
	b.wantError(b.poll(code), 400, "authorization_pending")
	b.wantError(b.poll(code, "client_id", "other"), 400, "invalid_grant")
	if a := b.decide("p1", "/device?user_code="+userCode, "allow"); a.status != http.StatusSeeOther || a.header.Get("Location") != "/device/done?allowed" {
		t.Fatalf("decision: %d %s", a.status, a.body)
	}
	b.clock.forward(16 * time.Second)
	got := b.poll(code)
	if got.status != http.StatusOK || !b.active(got.text(t, "access_token")) {
		t.Fatalf("approved poll: %d", got.status)
	}
	b.clock.forward(16 * time.Second)
	b.wantError(b.poll(code), 400, "invalid_grant")
	if b.active(got.text(t, "access_token")) {
		t.Error("a device code was used twice and its tokens live on")
	}
}

func TestDeviceRefusedAndExpired(t *testing.T) {
	b := newBench(t)
	code, userCode := b.startDevice()
	if a := b.decide("p1", "/device?user_code="+strings.ToLower(userCode), "deny"); a.status != http.StatusSeeOther {
		t.Fatalf("decision: %d", a.status)
	}
	b.wantError(b.poll(code), 400, "access_denied")
	if a := b.decide("p1", "/device?user_code="+userCode, "allow"); a.status != http.StatusBadRequest {
		t.Errorf("a second decision gave %d", a.status)
	}
	late, lateUser := b.startDevice()
	b.clock.forward(10 * time.Minute)
	b.wantError(b.poll(late), 400, "expired_token")
	if a := b.decide("p1", "/device?user_code="+lateUser, "allow"); a.status != http.StatusBadRequest {
		t.Errorf("an expired code gave %d", a.status)
	}
}

// TestDevicePageShowsWhoAsks is the defence against a code sent by somebody else.
func TestDevicePageShowsWhoAsks(t *testing.T) {
	b := newBench(t)
	_, userCode := b.startDevice()
	browser := b.browser("p1")
	_, form := fields(t, b.get(browser, "/device?user_code="+userCode).body)
	page := b.postRaw(browser, "/device", form.Encode(), "Origin", b.url)
	for _, want := range []string{"Mutt", "127.0.0.1", userCode, "You@try.test", "read, change and delete all your mail"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if a := b.get(b.browser(""), "/device?user_code="+userCode); !strings.HasPrefix(a.header.Get("Location"), "/signin") {
		t.Errorf("nobody signed in: %d %q", a.status, a.header.Get("Location"))
	}
}

// TestDeviceForgery: a code that an attacker started must not be approved by a form of
// the attacker's making.
func TestDeviceForgery(t *testing.T) {
	b := newBench(t)
	_, mine := b.startDevice()
	_, theirs := b.startDevice()
	browser := b.browser("p1")
	confirm := b.postRaw(browser, "/device", url.Values{"user_code": {mine}}.Encode(), "Origin", b.url)
	action, form := fields(t, confirm.body)
	form.Set("decision", "allow")
	for name, c := range map[string]struct {
		who     string
		changes []string
		origin  string
	}{
		"no token":        {"p1", []string{"token", ""}, b.url},
		"another device":  {"p1", []string{"user_code", theirs}, b.url},
		"another session": {"p2", nil, b.url},
		"nobody":          {"", nil, b.url},
		"another site":    {"p1", nil, "https://evil.test"},
	} {
		got := b.postRaw(b.browser(c.who), action, changed(clone(form), c.changes).Encode(), "Origin", c.origin)
		if got.status != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", name, got.status)
		}
	}
	if got := b.postRaw(browser, action, form.Encode(), "Origin", b.url); got.status != http.StatusSeeOther {
		t.Errorf("the form itself: %d", got.status)
	}
}

func TestDeviceGuessing(t *testing.T) {
	b := newBench(t)
	_, userCode := b.startDevice()
	enter := func(who, code string) answer {
		return b.postRaw(b.browser(who), "/device", url.Values{"user_code": {code}}.Encode(), "Origin", b.url)
	}
	for i := range 5 {
		if a := enter("p1", "BBBB-BBBB"); a.status != http.StatusBadRequest {
			t.Fatalf("guess %d: %d", i, a.status)
		}
	}
	if a := enter("p1", userCode); a.status != http.StatusTooManyRequests {
		t.Errorf("after five wrong codes the right one gave %d, want 429", a.status)
	}
	if a := enter("p2", userCode); a.status != http.StatusOK {
		t.Errorf("another person on the same network got %d", a.status)
	}
	for range 15 {
		enter("p2", "BBBB-BBBB") // five count, then p2 is silenced: the network has ten
	}
	for _, who := range []string{"p3", "p4"} {
		b.store.PutPerson(identity.Person{ID: identity.PersonID(who), Address: who + "@try.test"})
		for range 5 {
			enter(who, "BBBB-BBBB")
		}
	}
	b.store.PutPerson(identity.Person{ID: "p5", Address: "p5@try.test"})
	if a := enter("p5", userCode); a.status != http.StatusTooManyRequests {
		t.Errorf("after twenty wrong codes of one network: %d, want 429", a.status)
	}
	b.clock.forward(10 * time.Minute)
	_, userCode = b.startDevice()
	if a := enter("p1", userCode); a.status != http.StatusOK {
		t.Errorf("after the wait the right code gave %d", a.status)
	}
	// A look-up by address alone would let any site guess in a visitor's name.
	for range 20 {
		b.get(b.browser("p1"), "/device?user_code=BBBB-BBBB")
	}
	if a := enter("p1", userCode); a.status != http.StatusOK {
		t.Errorf("visits of the page alone counted as guesses: %d", a.status)
	}
}
