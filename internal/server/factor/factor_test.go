package factor

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/letterlock-mail/letterlock/internal/lab/authenticator"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const at = "https://id.example.org"

// A bench is a keeper on a real database, with a clock of its own.
type bench struct {
	*testing.T
	*Keeper
	db  *database.DB
	now time.Time
	ann identity.Person
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{now: time.Unix(1_800_000_015, 0)}
	b.T, _ = t.(*testing.T)
	db, err := database.Open(context.Background(), "sqlite:"+filepath.Join(t.TempDir(), "db"), database.Options{Timeout: time.Minute, Now: func() time.Time { return b.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b.db = db
	b.Keeper, err = New(Options{Store: db, PublicURL: at, Name: "Example", SealKey: []byte(strings.Repeat("s", 32)), ChallengeKey: []byte(strings.Repeat("c", 32)),
		Now: func() time.Time { return b.now }, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	b.ann = identity.Person{ID: "0198-ann", Address: "ann@example.org", Created: b.now}
	if err := errors.Join(db.AddPerson(context.Background(), b.ann), db.AddPerson(context.Background(), identity.Person{ID: "0198-bob", Address: "bob@example.org", Created: b.now})); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) bob() identity.Person {
	p, err := b.db.Person(b.Context(), "0198-bob")
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// register gives a device a passkey of ann's.
func (b *bench) register(d *authenticator.Device) identity.Passkey {
	b.Helper()
	key, err := b.AddPasskey(b.Context(), "portal", "browser", b.ann, " Ann's\tring ", b.created(d))
	if err != nil {
		b.Fatal(err)
	}
	return key
}

func (b *bench) created(d *authenticator.Device) string {
	b.Helper()
	options, err := b.NewPasskey(b.Context(), "portal", "browser", b.ann)
	if err != nil {
		b.Fatal(err)
	}
	answer, err := d.Create(options)
	if err != nil {
		b.Fatal(err)
	}
	return answer
}

func (b *bench) asked(d *authenticator.Device, person *identity.Person) string {
	b.Helper()
	options, err := b.Ask(b.Context(), "signin", "browser", person)
	if err != nil {
		b.Fatal(err)
	}
	answer, err := d.Get(options)
	if err != nil {
		b.Fatal(err)
	}
	return answer
}

func (b *bench) proves(answer string, person *identity.Person) error {
	owner, proof, err := b.Prove(b.Context(), "signin", "browser", person, netip.MustParseAddr("192.0.2.9"), answer)
	if err == nil && (owner.ID != b.ann.ID || proof.Factor != identity.ByPasskey) {
		b.Errorf("proved %+v %+v", owner, proof)
	}
	return err
}

func TestPasskey(t *testing.T) {
	b := newBench(t)
	d := authenticator.New(at)
	key := b.register(d)
	if key.Name != "Ann's ring" || key.Count != 1 || key.Synced || strings.Join(key.Transports, "") != "usb" {
		t.Errorf("%+v", key)
	}
	for _, person := range []*identity.Person{nil, &b.ann} {
		if err := b.proves(b.asked(d, person), person); err != nil {
			t.Errorf("%v: %v", person, err)
		}
	}
	f, err := b.Of(t.Context(), b.ann.ID)
	if err != nil || len(f.Passkeys) != 1 || f.Passkeys[0].Count != 3 || !f.Passkeys[0].LastUse.Equal(b.now.UTC()) || f.Passkeys[0].LastFrom.String() != "192.0.2.9" {
		t.Errorf("%+v, %v", f, err)
	}
	// One that counts nothing and is copied by its maker, as telephones' are.
	phone := authenticator.New(at)
	phone.Step, phone.Synced = 0, true
	b.register(phone)
	for range 2 {
		if err := b.proves(b.asked(phone, nil), nil); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Create(must(b.NewPasskey(t.Context(), "portal", "browser", b.ann))(t)); err == nil {
		t.Error("the page does not say which devices have one")
	}
	if err := b.RemovePasskey(t.Context(), b.ann.ID, key.ID); err != nil {
		t.Fatal(err)
	}
	if err := b.proves(b.asked(d, nil), nil); !errors.Is(err, ErrWrong) {
		t.Errorf("a removed passkey: %v", err)
	}
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// What a passkey must not prove, and a device must not make.
func TestPasskeyRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *bench, d *authenticator.Device)
		tell   func(answer string) string
		after  func(b *bench)
		want   error
	}{
		"another origin":            {change: func(_ *bench, d *authenticator.Device) { d.Origin = "https://id.example.org.evil.test" }, want: ErrWrong},
		"http instead of https":     {change: func(_ *bench, d *authenticator.Device) { d.Origin = "http://id.example.org" }, want: ErrWrong},
		"another relying party":     {change: func(_ *bench, d *authenticator.Device) { d.RPID = "evil.test" }, want: ErrWrong},
		"the device did not ask":    {change: func(_ *bench, d *authenticator.Device) { d.NoUV = true }, want: ErrWrong},
		"another key of the maker":  {change: func(_ *bench, d *authenticator.Device) { d.Synced = true }, want: ErrWrong},
		"a bit of the signature":    {tell: func(a string) string { return strings.Replace(a, `"signature":"M`, `"signature":"N`, 1) }, want: ErrWrong},
		"an hour later":             {after: func(b *bench) { b.now = b.now.Add(time.Hour) }, want: ErrStale},
		"no JSON":                   {tell: func(string) string { return "{" }, want: ErrWrong},
		"nothing":                   {tell: func(string) string { return "" }, want: ErrWrong},
		"much":                      {tell: func(a string) string { return a + strings.Repeat(" ", 64<<10) }, want: ErrWrong},
		"the person is disabled":    {after: func(b *bench) { _ = b.db.DisablePerson(b.Context(), b.ann.ID, b.now, "left") }, want: ErrWrong},
		"the person is gone":        {after: func(b *bench) { _ = b.db.DeletePerson(b.Context(), b.ann.ID) }, want: ErrWrong},
		"the counter went back":     {change: func(_ *bench, d *authenticator.Device) { d.Counter -= 2 }, want: ErrCloned},
		"the counter stands still":  {change: func(_ *bench, d *authenticator.Device) { d.Counter-- }, want: ErrCloned},
		"a counter that has become": {change: func(_ *bench, d *authenticator.Device) { d.Counter, d.Step = 0, 0 }, want: ErrCloned},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			d := authenticator.New(at)
			d.Counter = 5
			b.register(d)
			if c.change != nil {
				c.change(b, d)
			}
			answer := b.asked(d, nil)
			if c.tell != nil {
				answer = c.tell(answer)
			}
			if c.after != nil {
				c.after(b)
			}
			if err := b.proves(answer, nil); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestAnswersHoldForOneQuestion(t *testing.T) {
	b := newBench(t)
	d := authenticator.New(at)
	b.register(d)
	answer := b.asked(d, nil)
	if err := b.proves(answer, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.proves(answer, nil); !errors.Is(err, ErrSpent) && !errors.Is(err, ErrCloned) {
		t.Errorf("the same answer again: %v", err)
	}
	zero := authenticator.New(at) // without a counter it is the challenge that stops it
	zero.Step = 0
	b.register(zero)
	answer = b.asked(zero, nil)
	if err := b.proves(answer, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.proves(answer, nil); !errors.Is(err, ErrSpent) {
		t.Errorf("the same answer again, without counter: %v", err)
	}
	bob := b.bob()
	for name, ask := range map[string]func(answer string) error{
		"another browser": func(a string) error {
			_, _, err := b.Prove(t.Context(), "signin", "browser2", nil, netip.Addr{}, a)
			return err
		},
		"no browser": func(a string) error {
			_, _, err := b.Prove(t.Context(), "signin", "", nil, netip.Addr{}, a)
			return err
		},
		"another purpose": func(a string) error {
			_, _, err := b.Prove(t.Context(), "again", "browser", nil, netip.Addr{}, a)
			return err
		},
		"a person, asked for nobody": func(a string) error { return b.proves(a, &b.ann) },
		"another person":             func(a string) error { return b.proves(a, &bob) },
		"a registration": func(a string) error {
			_, err := b.AddPasskey(t.Context(), "signin", "browser", b.ann, "", a)
			return err
		},
	} {
		if err := ask(b.asked(d, nil)); !errors.Is(err, ErrStale) && !errors.Is(err, ErrWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A question to bob is not answered by ann's.
	if _, err := b.Ask(t.Context(), "again", "browser", &bob); !errors.Is(err, ErrWrong) {
		t.Errorf("bob has none: %v", err)
	}
	// Made once, and for one person.
	made := b.created(authenticator.New(at))
	if _, err := b.AddPasskey(t.Context(), "portal", "browser", bob, "", made); !errors.Is(err, ErrStale) {
		t.Errorf("for another person: %v", err)
	}
	if _, err := b.AddPasskey(t.Context(), "portal", "browser", b.ann, "", made); err != nil {
		t.Error(err)
	}
	if _, err := b.AddPasskey(t.Context(), "portal", "browser", b.ann, "", made); !errors.Is(err, ErrSpent) {
		t.Errorf("a second time: %v", err)
	}
	evil := authenticator.New("https://evil.test")
	if _, err := b.AddPasskey(t.Context(), "portal", "browser", b.ann, "", b.created(evil)); !errors.Is(err, ErrWrong) {
		t.Errorf("made at another origin: %v", err)
	}
	shy := authenticator.New(at)
	shy.NoUV = true
	if _, err := b.AddPasskey(t.Context(), "portal", "browser", b.ann, "", b.created(shy)); !errors.Is(err, ErrWrong) {
		t.Errorf("made without asking who it is: %v", err)
	}
}

func TestWherePasskeysAre(t *testing.T) {
	for place, want := range map[string]bool{
		"https://id.example.org": true, "https://id.example.org:8443": true, "http://localhost:8480": true,
		"http://id.example.org": false, "https://192.0.2.1": false, "http://127.0.0.1:80": false, "https://[2001:db8::1]": false, "": false,
	} {
		if got := CanPasskeys(place); got != want {
			t.Errorf("%s: %v", place, got)
		}
	}
	b := newBench(t)
	o := b.o
	o.PublicURL = "http://127.0.0.1:8480"
	k, err := New(o)
	if err != nil || k.Passkeys() {
		t.Fatalf("%v", err)
	}
	if _, err := k.Ask(t.Context(), "signin", "browser", nil); err == nil {
		t.Error("a question where no browser answers")
	}
}

// app sets an authenticator app up and returns what makes its codes.
func (b *bench) app() func(steps int) string {
	b.Helper()
	app, err := b.NewApp(b.ann)
	if err != nil {
		b.Fatal(err)
	}
	u, err := url.Parse(app.URI.Reveal())
	seed := u.Query().Get("secret")
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Example:ann@example.org" || u.Query().Get("issuer") != "Example" ||
		strings.ReplaceAll(app.Text.Reveal(), " ", "") != seed || !strings.HasPrefix(string(app.QR), "\x89PNG") {
		b.Fatalf("the app is given %s", u)
	}
	if raw, err := base32.StdEncoding.DecodeString(seed); err != nil || len(raw) != 20 {
		b.Fatalf("seed of %d bytes: %v", len(raw), err)
	}
	code := func(steps int) string {
		text, err := totp.GenerateCode(seed, b.now.Add(time.Duration(steps)*30*time.Second))
		if err != nil {
			b.Fatal(err)
		}
		return text
	}
	if err := b.AddApp(b.Context(), b.ann.ID, app.Ticket, "000 000"); !errors.Is(err, ErrWrong) && code(0) != "000000" {
		b.Fatalf("confirmed by a wrong code: %v", err)
	}
	again, err := b.SameApp(b.ann, app.Ticket)
	if err != nil || again.Text.Reveal() != app.Text.Reveal() {
		b.Fatalf("another seed after a wrong code: %v", err)
	}
	if f, err := b.Of(b.Context(), b.ann.ID); err != nil || f.TOTP != nil {
		b.Fatalf("kept before its first code: %v", err)
	}
	text := code(0)
	if err := b.AddApp(b.Context(), b.ann.ID, app.Ticket, text[:3]+" "+text[3:]); err != nil {
		b.Fatal(err)
	}
	return code
}

func TestTOTP(t *testing.T) {
	b := newBench(t)
	code := b.app()
	check := func(what, typed string, want error) {
		t.Helper()
		proof, err := b.Code(t.Context(), b.ann.ID, typed)
		if !errors.Is(err, want) || want == nil && (err != nil || proof.Factor != identity.ByTOTP) {
			t.Errorf("%s: %+v, %v", what, proof, err)
		}
	}
	check("the code that confirmed", code(0), ErrSpent)
	check("the one before", code(-1), ErrSpent)
	check("two steps ahead", code(2), ErrWrong)
	check("a clock half a minute ahead", code(1), nil)
	check("that again", code(1), ErrSpent)
	b.now = b.now.Add(30 * time.Second)
	check("the step that was spent ahead", code(0), ErrSpent)
	b.now = b.now.Add(60 * time.Second)
	check("a clock half a minute behind", code(-1), nil)
	check("the one of now", " "+code(0)[:3]+"-"+code(0)[3:]+" ", nil)
	check("somebody else's clock", code(-2), ErrWrong)
	check("seven digits", code(1)+"0", ErrWrong)
	check("letters", "abcdef", ErrWrong)
	check("none", "", ErrWrong)

	// One row in another's place opens nothing.
	f := must(b.Of(t.Context(), b.ann.ID))(t)
	if strings.Contains(string(f.TOTP.Sealed), code(0)) || len(f.TOTP.Sealed) < 20+12+16 {
		t.Error("the seed is not sealed")
	}
	if err := b.db.PutTOTP(t.Context(), identity.TOTP{Person: "0198-bob", Sealed: f.TOTP.Sealed, Created: b.now}); err != nil {
		t.Fatal(err)
	}
	if proof, err := b.Code(t.Context(), "0198-bob", code(1)); err == nil || errors.Is(err, ErrWrong) {
		t.Errorf("ann's seed for bob: %+v, %v", proof, err)
	}
	// Nor under another master key.
	o := b.o
	o.SealKey = []byte(strings.Repeat("x", 32))
	other := must(New(o))(t)
	if _, err := other.Code(t.Context(), b.ann.ID, code(1)); err == nil || !strings.Contains(err.Error(), "master key") {
		t.Errorf("another master key: %v", err)
	}
}

func TestAppTickets(t *testing.T) {
	b := newBench(t)
	app := must(b.NewApp(b.ann))(t)
	for name, ticket := range map[string]string{"none": "", "cut": app.Ticket[:20], "changed": "A" + app.Ticket[1:], "long": strings.Repeat("A", 4000)} {
		if ticket == app.Ticket {
			continue
		}
		if err := b.AddApp(t.Context(), b.ann.ID, ticket, "123456"); !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.AddApp(t.Context(), "0198-bob", app.Ticket, "123456"); !errors.Is(err, ErrStale) {
		t.Errorf("another person's: %v", err)
	}
	b.now = b.now.Add(ticketLife)
	if err := b.AddApp(t.Context(), b.ann.ID, app.Ticket, "123456"); !errors.Is(err, ErrStale) {
		t.Errorf("an old one: %v", err)
	}
}

// The count is the person's, over all instances, and only wrong codes are in it.
func TestCodeGuessing(t *testing.T) {
	b := newBench(t)
	code := b.app()
	b.now = b.now.Add(10 * time.Minute)
	other := must(New(b.o))(t) // another instance
	wrong := func(n int) string {
		for guess := n; ; guess++ {
			text := strings.Repeat("0", 6-len(itoa(guess))) + itoa(guess)
			if text != code(-1) && text != code(0) && text != code(1) {
				return text
			}
		}
	}
	refused := 0
	for n := range 3 * triesShort {
		k := []*Keeper{b.Keeper, other}[n%2]
		if _, err := k.Code(t.Context(), b.ann.ID, wrong(n*7)); errors.Is(err, ErrTooMany) {
			refused++
		} else if !errors.Is(err, ErrWrong) {
			t.Fatal(err)
		}
	}
	if refused != 2*triesShort {
		t.Errorf("%d of %d guesses were looked at", 3*triesShort-refused, 3*triesShort)
	}
	if _, err := b.Code(t.Context(), b.ann.ID, code(0)); !errors.Is(err, ErrTooMany) {
		t.Errorf("the right one among them: %v", err)
	}
	b.now = b.now.Add(spanShort)
	if _, err := b.Code(t.Context(), b.ann.ID, code(0)); err != nil {
		t.Errorf("ten minutes later: %v", err)
	}
	// Right ones are not counted.
	for range 3 * triesShort {
		b.now = b.now.Add(30 * time.Second)
		if _, err := b.Code(t.Context(), b.ann.ID, code(0)); err != nil {
			t.Fatal(err)
		}
	}
	// A day has its own bound.
	b.now = b.now.Truncate(spanLong).Add(spanLong)
	tried := 0
	for range 20 {
		b.now = b.now.Add(spanShort)
		for range triesShort {
			if _, err := b.Code(t.Context(), b.ann.ID, wrong(0)); errors.Is(err, ErrWrong) {
				tried++
			}
		}
	}
	if tried != triesLong {
		t.Errorf("%d guesses in a day, want %d", tried, triesLong)
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

func TestRecovery(t *testing.T) {
	b := newBench(t)
	codes := must(b.NewRecovery(t.Context(), b.ann.ID))(t)
	if len(codes) != 10 {
		t.Fatalf("%d codes", len(codes))
	}
	seen := map[string]bool{}
	for _, code := range codes {
		if text := code.Reveal(); len(text) != 23 || seen[text] {
			t.Errorf("code %q", text)
		}
		seen[code.Reveal()] = true
	}
	// As it is copied from paper: capitals, other separators, O for 0 and I for 1.
	copied := strings.NewReplacer("0", "O", "1", "I", "-", " ").Replace(strings.ToUpper(codes[0].Reveal()))
	proof, err := b.Code(t.Context(), b.ann.ID, copied)
	if err != nil || proof.Factor != identity.ByRecovery || proof.Left != 9 || proof.Factor.Admin() {
		t.Errorf("%+v, %v", proof, err)
	}
	for name, try := range map[string]func() error{
		"again":     func() error { _, err := b.Code(t.Context(), b.ann.ID, codes[0].Reveal()); return err },
		"another's": func() error { _, err := b.Code(t.Context(), "0198-bob", codes[1].Reveal()); return err },
		"of the old": func() error {
			must(b.NewRecovery(t.Context(), b.ann.ID))(t)
			_, err := b.Code(t.Context(), b.ann.ID, codes[1].Reveal())
			return err
		},
		"one too long": func() error { _, err := b.Code(t.Context(), b.ann.ID, codes[2].Reveal()+"0"); return err },
	} {
		if err := try(); !errors.Is(err, ErrWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Whoever sends wrong codes for an address does not keep its owner out.
	codes = must(b.NewRecovery(t.Context(), b.ann.ID))(t)
	for range 2 * triesLong {
		if _, err := b.Recover(t.Context(), b.ann.ID, "00000-00000-00000-00000"); !errors.Is(err, ErrWrong) && !errors.Is(err, ErrTooMany) {
			t.Fatal(err)
		}
	}
	if _, err := b.Recover(t.Context(), b.ann.ID, "00000-00000-00000-00000"); !errors.Is(err, ErrTooMany) {
		t.Errorf("%v", err)
	}
	if _, err := b.Recover(t.Context(), b.ann.ID, codes[3].Reveal()); err != nil {
		t.Errorf("the owner: %v", err)
	}
	if err := b.db.DisablePerson(t.Context(), b.ann.ID, b.now, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Recover(t.Context(), b.ann.ID, codes[4].Reveal()); !errors.Is(err, ErrWrong) && !errors.Is(err, ErrTooMany) {
		t.Errorf("disabled: %v", err)
	}
}

// A database that is away is no wrong code.
func TestStoreAway(t *testing.T) {
	b := newBench(t)
	code := b.app()
	d := authenticator.New(at)
	b.register(d)
	answer := b.asked(d, nil)
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := b.Code(t.Context(), b.ann.ID, code(1))
	_, err2 := b.Recover(t.Context(), b.ann.ID, "00000-00000-00000-00000")
	for _, err := range []error{err, err2, b.proves(answer, nil)} {
		if !errors.Is(err, identity.ErrUnavailable) || errors.Is(err, ErrWrong) {
			t.Error(err)
		}
	}
}
