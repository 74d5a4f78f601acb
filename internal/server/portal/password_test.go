package portal

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func goodForm() url.Values {
	return url.Values{"label": {"Ann’s scanner"}, "protocol": {"smtp"}, "recipients": {"Ann@Example.org\n@example.org"}, "networks": {"192.0.2.7, 2001:db8::/48"},
		"sender": {"ann@example.org"}, "per_hour": {"20"}, "expires": {"30"}}
}

func with(name string, values ...string) url.Values {
	form := goodForm()
	form[name] = values
	return form
}

func TestMakePassword(t *testing.T) {
	b := newBench(t, nil)
	w := b.send(ann, "/passwords/new?for=machine", "/passwords/new", "", goodForm())
	body := w.Body.String()
	if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", w.Code, w.Header(), body)
	}
	for _, want := range []string{minted, strings.ReplaceAll(minted, "-", ""), "smtp.example.org", "587", "STARTTLS", "ann@example.org", "shown once"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q on the page", want)
		}
	}
	if strings.Contains(body, "imap.example.org") {
		t.Error("settings for what it may not do")
	}
	if len(b.store.credentials) != 1 {
		t.Fatal("nothing was kept")
	}
	c := b.store.credentials[0]
	if c.Person != ann || c.Name != "anns-scanner" || c.Selector != "k7m2q9" || c.Hash == "" || !slices.Equal(c.Protocols, []identity.Protocol{identity.SMTP}) ||
		!slices.Equal(c.Recipients, []string{"ann@example.org", "@example.org"}) || !slices.Equal(c.Senders, []string{"ann@example.org"}) || c.PerHour != 20 ||
		!slices.Equal(c.Networks, []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::/48")}) || !c.Expires.Equal(b.now.Add(30*24*time.Hour)) {
		t.Errorf("kept as %+v", c)
	}
	// Never again, nowhere: not on a page, not in the trail, not in the log.
	all := b.log.String() + fmt.Sprintf("%+v", b.store)
	for _, path := range pages() {
		all += b.get(ann, path).Body.String()
	}
	if strings.Contains(all, minted) || strings.Contains(all, strings.ReplaceAll(minted, "-", "")) {
		t.Error("the password is somewhere else too")
	}
	if got := b.kinds(); !slices.Equal(got, []string{"credential.made"}) {
		t.Errorf("the trail says %v", got)
	}
	// The same name again gets a number; a name that is an address of somebody is passed over.
	b.store.addresses["ann+anns-scanner-2@example.org"] = identity.Address{Address: "ann+anns-scanner-2@example.org"}
	b.send(ann, "/passwords/new", "/passwords/new", "", goodForm())
	if got := b.store.credentials[1].Name; got != "anns-scanner-3" {
		t.Errorf("the second is called %s", got)
	}
}

func TestMachineDefaults(t *testing.T) {
	b := newBench(t, nil)
	body := b.get(ann, "/passwords/new?for=machine").Body.String()
	for _, want := range []string{`>ann@example.org</textarea>`, `name="protocol" value="smtp" checked`, `value="20"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(body, `value="imap" checked`) {
		t.Error("a printer reads mail")
	}
}

func TestPasswordFormFaults(t *testing.T) {
	many := strings.Repeat("192.0.2.%d\n", 17)
	var numbers []any
	for i := range 17 {
		numbers = append(numbers, i)
	}
	for _, c := range []struct {
		name  string
		form  url.Values
		field string
		says  string
	}{
		{"no label", with("label", "  "), "label", "Say what it is for"},
		{"long label", with("label", strings.Repeat("ä", 61)), "label", "at most 60"},
		{"label with a control", with("label", "a\x07b"), "label", "can be seen"},
		{"label that turns", with("label", "a\u202eb"), "label", "can be seen"},
		{"label not UTF-8", with("label", "a\xffb"), "label", "can be seen"},
		{"no protocol", with("protocol"), "protocol", "at least one"},
		{"unknown protocol", with("protocol", "smtp", "ftp"), "protocol", "at least one"},
		{"no network", with("networks", "here"), "networks", "is no network"},
		{"bits behind the mask", with("networks", "192.0.2.7/24"), "networks", "Did you mean 192.0.2.0/24?"},
		{"everywhere", with("networks", "::/0"), "networks", "is everywhere"},
		{"too many networks", with("networks", fmt.Sprintf(many, numbers...)), "networks", "too many"},
		{"long networks", with("networks", strings.Repeat("x", 9000)), "networks", "too long"},
		{"another's sender", with("sender", "bob@example.org"), "sender", "your own"},
		{"no recipient", with("recipients", "ann at example"), "recipients", "is no recipient"},
		{"recipient with a control", with("recipients", "a\x00@example.org"), "recipients", "is no recipient"},
		{"negative", with("per_hour", "-1"), "per_hour", "from 1 to 10000"},
		{"zero", with("per_hour", "0"), "per_hour", "from 1 to 10000"},
		{"not a number", with("per_hour", "many"), "per_hour", "from 1 to 10000"},
		{"too large", with("per_hour", "99999999999999999999"), "per_hour", "from 1 to 10000"},
		{"other lifetime", with("expires", "2"), "expires", "Choose one"},
		{"no lifetime", with("expires"), "expires", "Choose one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			w := b.send(ann, "/passwords/new", "/passwords/new", "", c.form)
			body := w.Body.String()
			if w.Code != http.StatusUnprocessableEntity || len(b.store.credentials) > 0 {
				t.Fatalf("%d, %d made", w.Code, len(b.store.credentials))
			}
			at := strings.Index(body, `id="`+c.field+`-error"`)
			if at < 0 || !strings.Contains(body[at:min(at+300, len(body))], c.says) {
				t.Errorf("the fault is not beside %s, or does not say %q", c.field, c.says)
			}
			if strings.Count(body, `class="error"`) != 1 {
				t.Errorf("other fields are marked too")
			}
			// What was typed in the other fields is there still.
			for field, want := range map[string]string{"label": "Ann’s scanner", "per_hour": `value="20"`, "expires": `<option value="30" selected>`, "recipients": "@example.org</textarea>"} {
				if field != c.field && !strings.Contains(body, want) {
					t.Errorf("%s was not kept", field)
				}
			}
		})
	}
}

// A form from an old session, or a sign-in that is too old, makes nothing and loses
// nothing that was typed.
func TestPasswordWantsFreshProof(t *testing.T) {
	b := newBench(t, nil)
	token := b.token(ann, "/passwords/new", "/passwords/new", "")
	form := goodForm()
	for name, c := range map[string]struct {
		token string
		wait  time.Duration
		says  string
	}{
		"stale":  {token, time.Hour, "Sign in once more"},
		"forged": {"x", 0, "not from your current session"},
	} {
		form.Set("token", c.token)
		b.now = b.now.Add(c.wait)
		w := b.post(ann, "/passwords/new", form)
		b.now = b.now.Add(-c.wait)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), c.says) || !strings.Contains(w.Body.String(), "Ann’s scanner") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if len(b.store.credentials) > 0 {
		t.Error("one was made")
	}
	b.now = b.now.Add(time.Hour)
	if w := b.get(ann, "/passwords/new"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/signin?again=true&back=%2Fpasswords%2Fnew" {
		t.Errorf("a stale sign-in sees the form: %d %s", w.Code, w.Header().Get("Location"))
	}
	// Looking and revoking need no fresh proof.
	if w := b.get(ann, "/"); w.Code != http.StatusOK {
		t.Errorf("a stale sign-in sees nothing: %d", w.Code)
	}
}

func TestTooManyPasswords(t *testing.T) {
	b := newBench(t, nil)
	for i := range maxPasswords {
		b.store.credentials = append(b.store.credentials, identity.Credential{Person: ann, Name: fmt.Sprint(i)})
	}
	w := b.send(ann, "/passwords/new", "/passwords/new", "", goodForm())
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "Revoke some") || len(b.store.credentials) != maxPasswords {
		t.Errorf("%d, %d", w.Code, len(b.store.credentials))
	}
}

func TestLongForm(t *testing.T) {
	b := newBench(t, nil)
	w := b.post(ann, "/passwords/new", url.Values{"label": {strings.Repeat("x", maxForm)}})
	if w.Code != http.StatusBadRequest {
		t.Errorf("%d", w.Code)
	}
}

func TestRightsInWords(t *testing.T) {
	for _, c := range []struct {
		c    identity.Credential
		want []string
	}{
		{identity.Credential{}, []string{"May read and send mail and change filters"}},
		{identity.Credential{Protocols: []identity.Protocol{identity.IMAP}, PerHour: 3, Senders: []string{"a@b.org"}}, []string{"May read mail (IMAP), nothing else"}},
		{identity.Credential{Protocols: []identity.Protocol{identity.SMTP, identity.IMAP}, Recipients: []string{"@b.org", "c@d.org"}, Senders: []string{"a@b.org"}, PerHour: 1, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
			[]string{"May read mail (IMAP) and send mail (SMTP), nothing else", "Sends only as a@b.org", "Sends only to everybody at b.org and c@d.org", "Sends at most 1 message an hour", "Works only from 192.0.2.0/24"}},
	} {
		if got := rights(c.c); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// FuzzWish: what passes is what the store and the line protocols take, within the limits.
func FuzzWish(f *testing.F) {
	f.Add("label=phone&protocol=imap&expires=0&networks=192.0.2.0/24&recipients=@example.org,a@b.org&per_hour=5&sender=ann@example.org")
	f.Add("label=%00&protocol=x&expires=-1&networks=::ffff:1.2.3.4%251&recipients=@")
	f.Fuzz(func(t *testing.T, body string) {
		form, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		w := readWish(form)
		c, faults := parseWish(w, []string{"ann@example.org"}, time.Unix(0, 0))
		if len(faults) > 0 {
			return
		}
		if c.Label == "" || len(c.Label) > 4*maxLabel || c.PerHour < 0 || c.PerHour > maxPerHour || len(c.Networks) > maxNetworks || len(c.Recipients) > maxRecipients {
			t.Fatalf("%q became %+v", body, c)
		}
		for _, text := range append(append([]string{c.Label}, c.Recipients...), c.Senders...) {
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e }) {
				t.Fatalf("%q let a control through: %q", body, text)
			}
		}
		for _, n := range c.Networks {
			if !n.IsValid() || n != n.Masked() || n.Bits() == 0 || n.Addr().Zone() != "" {
				t.Fatalf("%q became network %v", body, n)
			}
		}
		if name := identity.NameFrom(c.Label); name == "" || len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Fatalf("%q is called %q", body, name)
		}
	})
}
