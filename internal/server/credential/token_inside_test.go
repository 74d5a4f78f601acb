package credential

import (
	"slices"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestTokenProtocols is the whole table of scopes and protocols.
func TestTokenProtocols(t *testing.T) {
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	d := New(Options{Store: store, Tokens: store})
	all := []identity.Protocol{identity.IMAP, identity.POP3, identity.SMTP, identity.Sieve, "", "http"}
	for scope, may := range map[string][]identity.Protocol{
		ScopeIMAP: {identity.IMAP}, ScopePOP3: {identity.POP3}, ScopeSMTP: {identity.SMTP}, ScopeSieve: {identity.Sieve}, ScopeSendOnly: {identity.SMTP},
		ScopeMail: {identity.IMAP, identity.POP3, identity.SMTP, identity.Sieve}, "openid": nil, "offline_access": nil, "": nil, "IMAP": nil, "http": nil, "mail": nil,
	} {
		token := store.token(t, "ann", time.Now().Add(time.Hour), scope)
		for _, protocol := range all {
			p := present("ann@example.org", token)
			p.Protocol = protocol
			v, err := d.Token(t.Context(), p)
			want := ""
			if !slices.Contains(may, protocol) {
				want = string(ReasonProtocol)
			}
			if reasonOf(err) != want {
				t.Errorf("scope %q at %q: %q, want %q", scope, protocol, reasonOf(err), want)
			}
			if err == nil && (v.Grant == nil || v.Grant.Person != "ann" || !slices.Contains(v.Scopes, scope) || v.Credential != nil) {
				t.Errorf("verdict %+v", v)
			}
		}
	}
}

func TestToken(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	store := newFakeStore()
	store.person(t, "ann", "ann@example.org")
	good := store.token(t, "ann", now.Add(time.Second), ScopeMail)
	old := store.token(t, "ann", now, ScopeMail)
	password, _ := store.appPassword(t, "ann", nil)
	cases := []struct {
		name, user string
		token      secret.String
		want       Reason
	}{
		{"without a name", "", good, ""},
		{"with the name", "Ann@Example.org", good, ""},
		{"another's name", "bob@example.org", good, ReasonUser},
		{"with a label", "ann+phone@example.org", good, ReasonUser},
		{"control character", "ann@example.org\x01auth=", good, ReasonName},
		{"expired", "", old, ReasonExpired},
		{"one character changed", "", lastSymbolChanged(good), ReasonUnknown},
		{"an app password", "", password, ReasonForm},
		{"nothing", "", secret.String{}, ReasonForm},
	}
	d := New(Options{Store: store, Tokens: store, Now: func() time.Time { return now }})
	for _, c := range cases {
		v, err := d.Token(t.Context(), present(c.user, c.token))
		if reasonOf(err) != string(c.want) || err == nil && v.Login != "ann@example.org" {
			t.Errorf("%s: %q, %q", c.name, reasonOf(err), v.Login)
		}
	}
	if _, err := New(Options{Store: store}).Token(t.Context(), present("", good)); reasonOf(err) != string(ReasonForm) {
		t.Errorf("without a token store: %v", err)
	}
}

func TestHasForm(t *testing.T) {
	for text, want := range map[string]bool{
		"k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p": true, "K7M2Q94HW8T9N3XC0V5GBE1R7DZK2Y6P": true, "llat_x": true, "llrt_abc": true, " Llat_x": true,
		"": false, "secret": false, "llama-farm": false, "k7m2q9-4hw8t": false, "correct horse battery staple": false, "k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p0": false,
	} {
		if got := HasForm(secret.New(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
