package membership_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/membership"
)

const issuer = "https://github.com"

// A says is an Asker that answers by heart; everybody is a member but who is named.
type says struct {
	gone, unknown map[string]bool
	err           error
	asked         int
}

func (s *says) Ask(_ context.Context, accounts []identity.Binding) (map[string]membership.Answer, error) {
	s.asked++
	answers := map[string]membership.Answer{}
	for _, b := range accounts {
		switch {
		case s.gone[b.Subject]:
			answers[b.Subject] = membership.Answer{State: membership.Gone, Why: "not in the team"}
		case !s.unknown[b.Subject]:
			answers[b.Subject] = membership.Answer{State: membership.Member}
		}
	}
	return answers, s.err
}

// A club is people with accounts, on a real database.
type club struct {
	t     *testing.T
	db    *database.DB
	asker *says
	c     *membership.Checker
	now   time.Time
}

func newClub(t *testing.T, people int, more ...membership.Provider) *club {
	t.Helper()
	k := &club{t: t, asker: &says{gone: map[string]bool{}, unknown: map[string]bool{}}, now: time.Unix(1_800_000_000, 0)}
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "db"), database.Options{Timeout: time.Minute, Now: func() time.Time { return k.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	k.db = db
	for i := range people {
		k.join(fmt.Sprint("p", i), issuer, fmt.Sprint(i))
	}
	k.c = k.checker("one", append([]membership.Provider{{Name: "github", Issuer: issuer, Asker: k.asker, Every: time.Hour}}, more...)...)
	return k
}

func (k *club) checker(holder string, providers ...membership.Provider) *membership.Checker {
	k.t.Helper()
	c, err := membership.New(membership.Options{Store: k.db, Holder: holder, Providers: providers, Now: func() time.Time { return k.now }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

func (k *club) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// join makes a person, or gives one an account.
func (k *club) join(name, at, subject string) {
	k.t.Helper()
	err := k.db.AddPerson(k.t.Context(), identity.Person{ID: identity.PersonID(name), Address: name + "@example.org", Created: k.now})
	if !errors.Is(err, identity.ErrExists) {
		k.must(err)
	}
	k.must(k.db.Bind(k.t.Context(), identity.Binding{Issuer: at, Subject: subject, Person: identity.PersonID(name), Bound: k.now, Checked: k.now}))
}

// look is the next look.
func (k *club) look() {
	k.t.Helper()
	k.now = k.now.Add(time.Hour)
	k.must(k.c.Look(k.t.Context()))
}

// out names who is disabled.
func (k *club) out() string {
	k.t.Helper()
	people, err := k.db.People(k.t.Context(), "", 1000)
	k.must(err)
	var out []string
	for _, p := range people {
		if !p.Disabled.IsZero() {
			out = append(out, string(p.ID))
		}
	}
	return strings.Join(out, " ")
}

func (k *club) want(what, out string) {
	k.t.Helper()
	if got := k.out(); got != out {
		k.t.Errorf("%s: out %q, want %q", what, got, out)
	}
}

func TestLeaveAndReturn(t *testing.T) {
	k := newClub(t, 30)
	k.must(k.db.AddPerson(t.Context(), identity.Person{ID: "local", Address: "local@example.org", Created: k.now}))
	k.look()
	k.want("nobody has left", "")
	if b, err := k.db.Binding(t.Context(), issuer, "3"); err != nil || !b.Checked.Equal(k.now) {
		t.Errorf("not confirmed: %+v %v", b, err)
	}
	k.asker.gone["3"], k.asker.unknown["4"] = true, true
	k.look()
	k.want("one has left", "p3")
	p, err := k.db.Person(t.Context(), "p3")
	if err != nil || p.Reason != "no member any more at github: not in the team" {
		t.Errorf("reason %q %v", p.Reason, err)
	}
	k.look()
	k.want("still", "p3")
	k.asker.gone["3"] = false
	k.asker.unknown["3"] = true
	k.look()
	k.want("nothing known is no return", "p3")
	k.asker.unknown["3"] = false
	k.look()
	k.want("a member again", "")
	events, err := k.db.Events(t.Context(), identity.EventFilter{Person: "p3"})
	if err != nil || len(events) != 2 || events[0].Kind != "person.enabled" || events[1].Kind != "person.disabled" || events[0].Actor != "membership" {
		t.Errorf("trail %+v %v", events, err)
	}
	if leavers, err := k.db.Leavers(t.Context(), ""); err != nil || len(leavers) != 0 {
		t.Errorf("leavers %+v %v", leavers, err)
	}
}

// No answer suspends nobody, whatever came with it, and is asked for again sooner.
func TestNoAnswer(t *testing.T) {
	k := newClub(t, 5)
	k.asker.gone["1"], k.asker.err = true, errors.New("GitHub answered 502")
	k.look()
	k.want("away", "")
	looks, err := k.db.MembershipLooks(t.Context())
	if err != nil || len(looks) != 1 || looks[0].Trouble != "GitHub answered 502" || !looks[0].Answered.IsZero() {
		t.Errorf("looks %+v %v", looks, err)
	}
	for _, step := range []struct {
		after time.Duration
		asked int
	}{{time.Minute, 1}, {4 * time.Minute, 2}} {
		k.now = k.now.Add(step.after)
		k.must(k.c.Look(t.Context()))
		if k.asker.asked != step.asked {
			t.Errorf("asked %d times, want %d", k.asker.asked, step.asked)
		}
	}
	k.asker.err = &membership.Later{After: 40 * time.Minute, Err: errors.New("rate limit")}
	k.now = k.now.Add(5 * time.Minute)
	k.must(k.c.Look(t.Context()))
	k.now = k.now.Add(39 * time.Minute)
	k.must(k.c.Look(t.Context()))
	if k.asker.asked != 3 {
		t.Errorf("asked %d times, though it said when", k.asker.asked)
	}
	k.asker.err = nil
	k.now = k.now.Add(time.Minute)
	k.must(k.c.Look(t.Context()))
	k.want("back", "p1")
}

// More than a tenth at once, and more than two, wait for an administrator.
func TestTooMany(t *testing.T) {
	for _, c := range []struct {
		people, leave int
		waits         bool
	}{{2, 2, false}, {3, 3, true}, {20, 2, false}, {20, 3, true}, {29, 3, true}, {30, 3, false}, {40, 4, false}, {40, 5, true}} {
		k := newClub(t, c.people)
		for i := range c.leave {
			k.asker.gone[fmt.Sprint(i)] = true
		}
		k.look()
		if waits := k.out() == ""; waits != c.waits {
			t.Errorf("%d of %d: waits %v (out %s)", c.leave, c.people, waits, k.out())
		}
	}
}

func TestApproval(t *testing.T) {
	k := newClub(t, 20)
	for i := range 5 {
		k.asker.gone[fmt.Sprint(i)] = true
	}
	k.look()
	k.look()
	k.want("waiting", "")
	events, err := k.db.Events(t.Context(), identity.EventFilter{Kind: "membership.waiting"})
	if err != nil || len(events) != 1 || !strings.Contains(events[0].Detail, "5 of 20 people") {
		t.Errorf("said %+v %v", events, err)
	}
	leavers, err := k.db.Leavers(t.Context(), issuer)
	if err != nil || len(leavers) != 5 || leavers[0].State != identity.LeaverWaiting {
		t.Fatalf("leavers %+v %v", leavers, err)
	}
	// One is a member after all, and one more has left since: not approved.
	for _, l := range leavers {
		l.State = identity.LeaverApproved
		k.must(k.db.PutLeaver(t.Context(), l))
	}
	k.asker.gone["0"], k.asker.gone["9"] = false, true
	k.now = k.now.Add(time.Second)
	k.must(k.c.Look(t.Context())) // at once
	k.want("approved", "p1 p2 p3 p4 p9")
	// Three more would be too many again.
	for _, s := range []string{"10", "11", "12"} {
		k.asker.gone[s] = true
	}
	k.look()
	k.want("three more", "p1 p2 p3 p4 p9")
	k.asker.gone = map[string]bool{}
	k.look()
	k.want("all are back", "")
}

// A provider that loses a few at each look empties no domain: what has gone within 24 hours
// counts, over restarts and other instances, for those who were removed or are back too.
func TestTooManyInADay(t *testing.T) {
	k := newClub(t, 100)
	gone := 0
	lose := func() { // three more, seen by an instance that has just started
		for range 3 {
			k.asker.gone[fmt.Sprint(gone)] = true
			gone++
		}
		k.c = k.checker(fmt.Sprint("instance ", gone), membership.Provider{Name: "github", Issuer: issuer, Asker: k.asker, Every: time.Hour})
		k.look()
	}
	lose()
	lose()
	k.asker.gone["0"] = false // back
	lose()
	k.must(k.db.DeletePerson(t.Context(), "p1"))
	want := "p2 p3 p4 p5 p6 p7 p8"
	k.want("nine of a hundred", want)
	lose()
	k.want("twelve", want)
	events, err := k.db.Events(t.Context(), identity.EventFilter{Kind: "membership.waiting"})
	if err != nil || len(events) != 1 || !strings.Contains(events[0].Detail, "3 of 99 people") || !strings.Contains(events[0].Detail, "9 have gone within a day") {
		t.Errorf("said %+v %v", events, err)
	}
	lose()
	k.want("fifteen", want)
	// An administrator's word lets those go, and does not use up the day's measure.
	k.approve()
	k.must(k.c.Look(t.Context()))
	want = "p10 p11 p12 p13 p14 p2 p3 p4 p5 p6 p7 p8 p9"
	k.want("approved", want)
	k.asker.gone["15"] = true
	k.look()
	k.want("the tenth of 99 within a day, and too many", want)
	// A day later there is room again, for others: who waits, waits.
	k.now = k.now.Add(24 * time.Hour)
	k.asker.gone["16"] = true
	k.look()
	k.want("a day later", "p10 p11 p12 p13 p14 p16 p2 p3 p4 p5 p6 p7 p8 p9")
	k.approve()
	k.must(k.c.Look(t.Context()))
	k.want("approved too", "p10 p11 p12 p13 p14 p15 p16 p2 p3 p4 p5 p6 p7 p8 p9")
}

// An approval is for the look that follows: about whom nothing is known by then, the
// provider is not asked again and again without a pause.
func TestApprovalIsSpent(t *testing.T) {
	other := &says{gone: map[string]bool{}}
	k := newClub(t, 20, membership.Provider{Name: "oidc", Issuer: "https://op.test", Asker: other, Every: time.Hour})
	for i := range 5 {
		k.asker.gone[fmt.Sprint(i)] = true
	}
	k.look()
	k.join("p1", "https://op.test", "one") // vouched for elsewhere from now on
	k.asker.unknown["2"], k.asker.gone["2"] = true, false
	k.approve()
	k.must(k.c.Look(t.Context()))
	k.want("approved", "p0 p3 p4")
	asked := k.asker.asked
	for range 3 {
		k.now = k.now.Add(5 * time.Second)
		k.must(k.c.Look(t.Context()))
	}
	if k.asker.asked != asked {
		t.Errorf("asked %d times more within seconds", k.asker.asked-asked)
	}
	k.asker.gone["2"] = true
	k.look()
	k.want("its word has come late, and is one of one", "p0 p2 p3 p4")
}

// approve is the administrator's word for all who wait.
func (k *club) approve() {
	k.t.Helper()
	leavers, err := k.db.Leavers(k.t.Context(), issuer)
	k.must(err)
	for _, l := range leavers {
		if l.State == identity.LeaverWaiting {
			l.State = identity.LeaverApproved
			k.must(k.db.PutLeaver(k.t.Context(), l))
		}
	}
	k.now = k.now.Add(time.Second)
}

// Who is gone by a refused refresh token stays gone until somebody has acted on it; a token
// that a sign-in has brought meanwhile says otherwise.
func TestRefusedTokensWait(t *testing.T) {
	k := newClub(t, 4)
	r := &refresher{says: map[string]error{"0": membership.ErrSpent, "1": membership.ErrSpent, "2": membership.ErrSpent}, used: map[string]bool{}}
	a := k.byRefresh(r, true)
	k.c = k.checker("one", membership.Provider{Name: "oidc", Issuer: issuer, Asker: a, Every: time.Hour})
	k.look()
	k.want("three of four wait", "")
	k.approve()
	r.meanwhile = func() { // while the issuer is asked about 1, its owner signs in
		r.meanwhile = nil
		k.must(a.Keep(t.Context(), issuer, "1", secret.New("of the sign-in")))
	}
	k.must(k.c.Look(t.Context()))
	k.want("approved", "p0 p2")
}

// Who has one account that belongs, belongs; and other sources keep their word.
func TestSeveralAccounts(t *testing.T) {
	other := &says{gone: map[string]bool{}}
	k := newClub(t, 30, membership.Provider{Name: "oidc", Issuer: "https://op.test", Asker: other, Every: time.Hour})
	k.join("p1", issuer, "1001")
	k.join("p2", "https://op.test", "two")
	k.join("p3", "https://unasked.test", "three")
	k.look()
	k.asker.gone["1"], k.asker.gone["2"], k.asker.gone["3"] = true, true, true
	k.look()
	k.want("one of two at GitHub, one vouched for elsewhere, one by nobody who is asked", "p3")
	other.gone["two"] = true
	for range 3 {
		k.look()
	}
	if got := k.out(); !strings.Contains(got, "p2") {
		t.Errorf("nobody vouches any more: out %q", got)
	}
	_, err := k.db.Suspend(t.Context(), identity.Hold{Person: "p3", Source: identity.HoldSCIM, Since: k.now, Reason: "directory"}, "scim")
	k.must(err)
	k.asker.gone = map[string]bool{}
	k.look()
	if got := k.out(); !strings.Contains(got, "p3") {
		t.Errorf("the directory's word was taken back: out %q", got)
	}
}

// An administrator who enables somebody knows why.
func TestEnabledByHand(t *testing.T) {
	k := newClub(t, 20)
	k.asker.gone["1"] = true
	k.look()
	k.want("left", "p1")
	k.must(k.db.EnablePerson(t.Context(), "p1"))
	k.look()
	k.want("enabled by hand", "")
	k.asker.gone["1"] = false
	k.look()
	k.asker.gone["1"] = true
	k.look()
	k.want("left once more", "p1")
}

func TestOneInstanceAsks(t *testing.T) {
	k := newClub(t, 3)
	two := k.checker("two", membership.Provider{Name: "github", Issuer: issuer, Asker: k.asker, Every: time.Hour})
	k.look()
	k.must(two.Look(t.Context()))
	if k.asker.asked != 1 {
		t.Errorf("asked %d times by two instances", k.asker.asked)
	}
}

// refresher answers by token.
type refresher struct {
	says map[string]error // by subject
	n    int
	used map[string]bool

	meanwhile func() // happens during an exchange about 1
}

func (r *refresher) Refresh(_ context.Context, subject string, token secret.String) (secret.String, error) {
	if r.meanwhile != nil && subject == "1" {
		r.meanwhile()
	}
	if r.used[token.Reveal()] {
		return secret.String{}, membership.ErrSpent
	}
	if err := r.says[subject]; errors.Is(err, membership.ErrSpent) || err != nil && !errors.Is(err, membership.ErrNotMember) {
		return secret.String{}, err
	}
	r.used[token.Reveal()] = true
	r.n++
	return secret.New(fmt.Sprint("rotated-", r.n)), r.says[subject]
}

func (k *club) byRefresh(r *refresher, spentIsGone bool) *membership.ByRefresh {
	k.t.Helper()
	box, err := membership.NewBox(make([]byte, 32), rand.Reader)
	k.must(err)
	a := membership.NewByRefresh(membership.RefreshOptions{Refresher: r, Grants: k.db, Box: box, SpentIsGone: spentIsGone, Now: func() time.Time { return k.now }})
	for i := range 4 {
		k.must(a.Keep(k.t.Context(), issuer, fmt.Sprint(i), secret.New(fmt.Sprint("first-", i))))
	}
	return a
}

func TestByRefresh(t *testing.T) {
	away := errors.New("token endpoint answered 502")
	for _, c := range []struct {
		what        string
		says        map[string]error
		spentIsGone bool
		want        string // m member, g gone, ? not known, of four with a token and one without; "" an error
	}{
		{"all well", nil, false, "mmmm?"},
		{"the claim is gone", map[string]error{"1": membership.ErrNotMember}, false, "mgmm?"},
		{"the claim is gone of all", map[string]error{"0": membership.ErrNotMember, "1": membership.ErrNotMember, "2": membership.ErrNotMember, "3": membership.ErrNotMember}, false, ""},
		{"a refused token says nothing", map[string]error{"1": membership.ErrSpent}, false, "m?mm?"},
		{"unless it does", map[string]error{"1": membership.ErrSpent}, true, "mgmm?"},
		{"all refused", map[string]error{"0": membership.ErrSpent, "1": membership.ErrSpent, "2": membership.ErrSpent, "3": membership.ErrSpent}, true, ""},
		{"away for one", map[string]error{"1": away}, false, "m?mm?"},
		{"away", map[string]error{"0": away, "1": away, "2": away}, false, ""},
	} {
		k := newClub(t, 5)
		r := &refresher{says: c.says, used: map[string]bool{}}
		a := k.byRefresh(r, c.spentIsGone)
		accounts, err := k.db.BindingsAt(t.Context(), issuer, "", 10)
		k.must(err)
		for round := range 2 { // the second by rotated tokens
			answers, err := a.Ask(t.Context(), accounts)
			got := ""
			for _, b := range accounts {
				if err == nil {
					got += string("?mg"[answers[b.Subject].State])
				}
			}
			want := c.want
			if round == 1 {
				if !c.spentIsGone && errors.Is(c.says["1"], membership.ErrSpent) {
					want = "m?mm?" // forgotten
				}
			}
			if got != want {
				t.Errorf("%s, round %d: %q, want %q (%v)", c.what, round+1, got, want, err)
			}
		}
	}
}

// What the database holds opens for its own account and key only.
func TestBox(t *testing.T) {
	k := newClub(t, 2)
	key := make([]byte, 32)
	box, err := membership.NewBox(key, rand.Reader)
	k.must(err)
	sealed, err := box.Seal(issuer, "1", secret.New("refresh-token-text"))
	k.must(err)
	if strings.Contains(string(sealed), "refresh") {
		t.Error("the token stands there")
	}
	if got, err := box.Open(identity.SealedGrant{Issuer: issuer, Subject: "1", Sealed: sealed}); err != nil || got.Reveal() != "refresh-token-text" {
		t.Errorf("%v %v", got, err)
	}
	key[0] = 1
	other, err := membership.NewBox(key, rand.Reader)
	k.must(err)
	bent := append([]byte{}, sealed...)
	bent[len(bent)-1] ^= 1
	for what, open := range map[string]func() (secret.String, error){
		"another key": func() (secret.String, error) {
			return other.Open(identity.SealedGrant{Issuer: issuer, Subject: "1", Sealed: sealed})
		},
		"another account": func() (secret.String, error) {
			return box.Open(identity.SealedGrant{Issuer: issuer, Subject: "2", Sealed: sealed})
		},
		"cut": func() (secret.String, error) {
			return box.Open(identity.SealedGrant{Issuer: issuer, Subject: "1", Sealed: sealed[:9]})
		},
		"bent": func() (secret.String, error) {
			return box.Open(identity.SealedGrant{Issuer: issuer, Subject: "1", Sealed: bent})
		},
	} {
		if got, err := open(); err == nil {
			t.Errorf("%s opens it: %q", what, got.Reveal())
		}
	}
}
