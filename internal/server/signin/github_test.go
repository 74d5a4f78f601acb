package signin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	org  = 9919
	team = 4711
)

func ann() *fakegithub.Person {
	return &fakegithub.Person{
		ID: 583231, Login: "ann", Name: "Ann Example",
		Emails: []fakegithub.Email{{Email: "ann@home.test", Primary: true, Verified: true}, {Email: "ann@example.org", Verified: true}},
		Orgs:   []fakegithub.Membership{{ID: org, State: "active"}},
		Teams:  []fakegithub.Membership{{ID: team, Org: org, State: "active"}},
	}
}

func members(o *GitHubOptions, _ *Entrance) { o.Organization, o.Team = org, team }
func byAddress(o *GitHubOptions, e *Entrance) {
	o.Emails, e.BindVerified = true, true
}
func provisioned(_ *GitHubOptions, e *Entrance) { e.Provision = true }

// The whole way by the table: a bound account comes in, under whatever name, and leaves no
// token behind.
func TestBoundAccount(t *testing.T) {
	h := newHouse(t, members)
	p := h.person("ann@example.org")
	h.store.bindings[[2]string{h.at, "583231"}] = identity.Binding{Issuer: h.at, Subject: "583231", Person: p.ID}
	who := ann()
	h.github.Sit(who)
	b := h.browser()
	if s := b.walk("/signin?back=%2Fwork%3Fx%3D1", ""); s.body != "home of ann@example.org at /work" || s.at != public+"/work?x=1" {
		t.Fatalf("%+v", s)
	}
	if h.github.Tokens() != 0 || len(h.github.Fired()) != 0 {
		t.Errorf("%d tokens left at GitHub, refused %v", h.github.Tokens(), h.github.Fired())
	}
	if got := h.kinds(); got != "signin.ok" {
		t.Errorf("audit trail: %s", got)
	}
	for _, place := range b.path {
		if strings.Contains(place, "/authorize?") && (!strings.Contains(place, "code_challenge_method=S256") || !strings.Contains(place, "scope=read%3Auser+read%3Aorg") || strings.Contains(place, "hush")) {
			t.Errorf("asked with %s", place)
		}
	}
	who.Login = "ann-renamed"
	h.now = h.now.Add(time.Hour)
	b = h.browser()
	if s := b.signIn(); !strings.HasPrefix(s.body, "home of ann@example.org") {
		t.Errorf("after a rename: %+v", s)
	}
	if got := h.store.bindings[[2]string{h.at, "583231"}].Checked; !got.Equal(h.now) {
		t.Errorf("the membership was checked at %v", got)
	}
	// The freed login is somebody else's now.
	h.github.Sit(&fakegithub.Person{ID: 99, Login: "ann", Orgs: who.Orgs, Teams: who.Teams, Emails: who.Emails})
	if b = h.browser(); b.signIn().code != 403 || b.signedIn() {
		t.Error("a login that was freed opened the mailbox of its former owner")
	}
}

// Who may not come in, and what the page says.
func TestGitHubRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(h *house, p *fakegithub.Person)
		code   int
		says   string
		event  string
	}{
		"denied at GitHub":        {func(_ *house, p *fakegithub.Person) { p.Deny = true }, 403, "You refused at GitHub", "denied"},
		"left the organisation":   {func(_ *house, p *fakegithub.Person) { p.Orgs = nil }, 403, "does not say that you belong", "not-a-member"},
		"another organisation":    {func(_ *house, p *fakegithub.Person) { p.Orgs[0].ID = 1 }, 403, "does not say that you belong", "not-a-member"},
		"pending in organisation": {func(_ *house, p *fakegithub.Person) { p.Orgs[0].State = "pending" }, 403, "have not accepted yet", "pending"},
		"pending in team":         {func(_ *house, p *fakegithub.Person) { p.Teams[0].State = "pending" }, 403, "have not accepted yet", "pending"},
		"left the team":           {func(_ *house, p *fakegithub.Person) { p.Teams = nil }, 403, "does not say that you belong", "not-a-member"},
		"team of another org":     {func(_ *house, p *fakegithub.Person) { p.Teams[0].Org = 1 }, 403, "does not say that you belong", "not-a-member"},
		"app not allowed in org":  {func(h *house, _ *fakegithub.Person) { h.github.Restricted[org] = true }, 403, "Organization access", "not-a-member"},
		"scope unticked":          {func(_ *house, p *fakegithub.Person) { p.Untick = []string{"read:org"} }, 403, "read:org", "scope"},
		"app suspended":           {func(h *house, _ *fakegithub.Person) { h.github.Suspended = true }, 403, "did not confirm", "provider"},
		"wrong client secret":     {func(h *house, _ *fakegithub.Person) { h.github.Secret = "changed" }, 403, "did not confirm", "provider"},
		"rate limit":              {func(h *house, _ *fakegithub.Person) { h.github.Limit = "primary" }, 502, "could not tell us just now", ""},
		"secondary rate limit":    {func(h *house, _ *fakegithub.Person) { h.github.Limit = "secondary" }, 502, "could not tell us just now", ""},
		"API down":                {func(h *house, _ *fakegithub.Person) { h.github.Limit = "down" }, 502, "could not tell us just now", ""},
		"API in maintenance":      {func(h *house, _ *fakegithub.Person) { h.github.Limit = "garbage" }, 502, "could not tell us just now", ""},
		"answer without end":      {func(h *house, _ *fakegithub.Person) { h.github.Limit = "huge" }, 502, "could not tell us just now", ""},
		"person disabled": {func(h *house, _ *fakegithub.Person) {
			p := h.store.people["id-ann@example.org"]
			p.Disabled = h.now
			h.store.people[p.ID] = p
		}, 403, "not in use at present", "disabled"},
		"database away": {func(h *house, _ *fakegithub.Person) { h.store.down = true }, 503, "cannot answer just now", ""},
		"throttled":     {func(h *house, _ *fakegithub.Person) { h.refuse = true }, 429, "Too many tries", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, members)
			p := h.person("ann@example.org")
			h.store.bindings[[2]string{h.at, "583231"}] = identity.Binding{Issuer: h.at, Subject: "583231", Person: p.ID}
			who := ann()
			h.github.Sit(who)
			c.change(h, who)
			b := h.browser()
			s := b.signIn()
			h.store.down = false
			if s.code != c.code || !strings.Contains(s.body, c.says) || b.signedIn() {
				t.Errorf("%d, signed in %t, %s", s.code, b.signedIn(), s.body)
			}
			last := identity.Event{}
			if len(h.store.events) > 0 {
				last = h.store.events[len(h.store.events)-1]
			}
			if c.event != "" && (last.Kind != "signin.refused" || !strings.Contains(last.Detail, c.event)) {
				t.Errorf("audit trail: %+v", last)
			}
			if name == "person disabled" && last.Person != p.ID {
				t.Errorf("the refusal is nobody's: %+v", last)
			}
			if s.code == 502 && strings.Contains(name, "rate limit") && s.header.Get("Retry-After") == "" {
				t.Error("nothing said about when to come again")
			}
			if h.github.Limit == "" && h.github.Tokens() != 0 && name != "wrong client secret" {
				t.Errorf("%d tokens left at GitHub", h.github.Tokens())
			}
		})
	}
}

// Memberships and addresses are read to the last page.
func TestPages(t *testing.T) {
	h := newHouse(t, members, byAddress)
	h.person("ann@example.org")
	who := ann()
	who.Orgs, who.Emails = nil, nil
	for i := range 250 {
		who.Orgs = append(who.Orgs, fakegithub.Membership{ID: int64(i + 1), State: "active"})
		who.Emails = append(who.Emails, fakegithub.Email{Email: fmt.Sprintf("ann%d@home.test", i), Verified: true})
	}
	who.Orgs = append(who.Orgs, fakegithub.Membership{ID: org, State: "active"})
	who.Emails = append(who.Emails, fakegithub.Email{Email: "ann@example.org", Verified: true})
	h.github.Sit(who)
	if s := h.browser().signIn(); !strings.HasPrefix(s.body, "home of ann@example.org") {
		t.Errorf("%+v", s)
	}
	calls := map[string]int{}
	for _, line := range h.github.Asked() {
		calls[line]++
	}
	if calls["GET /api/v3/user/emails"] != 3 || calls["GET /api/v3/user/memberships/orgs"] != 3 {
		t.Errorf("%v", calls)
	}
}

// Which verified addresses decide at a first sign-in, as a table.
func TestFirstSignIn(t *testing.T) {
	type e = fakegithub.Email
	for name, c := range map[string]struct {
		emails    []e
		provision bool
		want      string // whose mailbox; empty: refused
	}{
		"own address":                   {emails: []e{{Email: "ann@example.org", Verified: true}}, want: "ann@example.org"},
		"in capitals":                   {emails: []e{{Email: "Ann@Example.ORG", Verified: true}}, want: "ann@example.org"},
		"not verified":                  {emails: []e{{Email: "ann@example.org", Primary: true}}},
		"another domain":                {emails: []e{{Email: "ann@example.com", Verified: true}}},
		"a domain below":                {emails: []e{{Email: "ann@sub.example.org", Verified: true}}},
		"a domain that ends like ours":  {emails: []e{{Email: "ann@notexample.org", Verified: true}}},
		"two at signs":                  {emails: []e{{Email: "ann@evil.test@example.org", Verified: true}}},
		"quoted at sign":                {emails: []e{{Email: `"ann@example.org"@evil.test`, Verified: true}}},
		"quoted":                        {emails: []e{{Email: `"ann"@example.org`, Verified: true}}},
		"our domain, then theirs":       {emails: []e{{Email: "ann@example.org@evil.test", Verified: true}}},
		"comment":                       {emails: []e{{Email: "ann(x)@example.org", Verified: true}}},
		"list of two":                   {emails: []e{{Email: "x@evil.test,ann@example.org", Verified: true}}},
		"display name":                  {emails: []e{{Email: "Ann <ann@example.org>", Verified: true}}},
		"line break":                    {emails: []e{{Email: "ann@example.org\n", Verified: true}}},
		"Kelvin sign":                   {emails: []e{{Email: "\u212aate@example.org", Verified: true}}},
		"full-width letters":            {emails: []e{{Email: "ann@ｅxample.org", Verified: true}}},
		"extension":                     {emails: []e{{Email: "ann+x@example.org", Verified: true}}},
		"dot at the end":                {emails: []e{{Email: "ann@example.org.", Verified: true}}},
		"two persons":                   {emails: []e{{Email: "ann@example.org", Verified: true}, {Email: "kate@example.org", Verified: true}}},
		"disabled person":               {emails: []e{{Email: "old@example.org", Verified: true}}},
		"nobody, not made":              {emails: []e{{Email: "new@example.org", Verified: true}}},
		"nobody, made":                  {emails: []e{{Email: "new@example.org", Verified: true}}, provision: true, want: "new@example.org"},
		"made with capitals":            {emails: []e{{Email: "New@Example.org", Verified: true}}, provision: true, want: "new@example.org"},
		"nobody, two to choose from":    {emails: []e{{Email: "new@example.org", Verified: true}, {Email: "newer@example.org", Verified: true}}, provision: true},
		"an office":                     {emails: []e{{Email: "postmaster@example.org", Verified: true}}, provision: true},
		"an alias is there":             {emails: []e{{Email: "alias@example.org", Verified: true}}, provision: true},
		"an extension, made":            {emails: []e{{Email: "ann+scanner@example.org", Verified: true}}, provision: true},
		"nothing of ours, made":         {emails: []e{{Email: "new@example.com", Verified: true}}, provision: true},
		"disabled person is not made":   {emails: []e{{Email: "old@example.org", Verified: true}}, provision: true},
		"existing person, not made new": {emails: []e{{Email: "ann@example.org", Verified: true}}, provision: true, want: "ann@example.org"},
	} {
		t.Run(name, func(t *testing.T) {
			rules := []rule{byAddress}
			if c.provision {
				rules = append(rules, provisioned)
			}
			h := newHouse(t, rules...)
			h.person("ann@example.org")
			h.person("kate@example.org")
			old := h.person("old@example.org")
			old.Disabled = h.now
			h.store.people[old.ID] = old
			h.store.addresses["alias@example.org"] = identity.Address{Address: "alias@example.org", Targets: []string{"ann@example.org"}}
			before := len(h.store.people)
			h.github.Sit(&fakegithub.Person{ID: 7, Login: "somebody", Emails: c.emails})
			b := h.browser()
			s := b.signIn()
			if c.want == "" {
				if s.code != 403 || b.signedIn() || len(h.store.bindings) != 0 || len(h.store.people) != before {
					t.Errorf("%d %s, %v", s.code, s.body, h.store.bindings)
				}
				return
			}
			if s.body != "home of "+c.want+" at /" || len(h.store.bindings) != 1 {
				t.Errorf("%d %s, %v", s.code, s.body, h.store.bindings)
			}
			if a := h.store.addresses[c.want]; c.provision && (len(a.Owners) != 1 || !a.Owners[0].Has(identity.RoleLogin)) {
				t.Errorf("mailbox %+v", a)
			}
		})
	}
}

// Once bound, nothing the provider says about addresses moves the account, and the address
// lets no second account in.
func TestNeverBoundAgain(t *testing.T) {
	h := newHouse(t, byAddress)
	h.person("ann@example.org")
	h.person("kate@example.org")
	who := ann()
	h.github.Sit(who)
	if s := h.browser().signIn(); !strings.HasPrefix(s.body, "home of ann@") {
		t.Fatalf("%+v", s)
	}
	who.Emails = []fakegithub.Email{{Email: "kate@example.org", Primary: true, Verified: true}}
	if s := h.browser().signIn(); !strings.HasPrefix(s.body, "home of ann@") || len(h.store.bindings) != 1 {
		t.Errorf("an address moved an account: %+v", s)
	}
	// A second account with the same verified address does not come in by itself.
	h.github.Sit(&fakegithub.Person{ID: 666, Login: "mallory", Emails: ann().Emails})
	b := h.browser()
	if s := b.signIn(); s.code != 403 || b.signedIn() || len(h.store.bindings) != 1 {
		t.Errorf("an address let a second account in: %+v", s)
	}
	if got := h.kinds(); got != "signin.bound signin.ok signin.ok signin.refused" {
		t.Errorf("audit trail: %s", got)
	}
}
