package credential

import (
	"strings"
	"testing"
	"unicode"

	"golang.org/x/crypto/argon2"
)

// FuzzPHC: what is read is within the caps, and is written again as it was.
func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=262144,t=16,p=16$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=019456,t=+2,p=1$AAAAAAAAAAA=$AAAAAAAAAAAAAAAAAAAAAB")
	f.Add("$argon2i$v=16$m=4294967296,t=0,p=256$$")
	f.Fuzz(func(t *testing.T, text string) {
		read, err := parsePHC(text)
		if err != nil {
			return
		}
		if read.String() != text {
			t.Errorf("%q is written %q", text, read)
		}
		if err := read.cost.Check(); err != nil || len(read.salt) < minSalt || len(read.salt) > maxSalt || len(read.tag) < minTag || len(read.tag) > maxTag {
			t.Errorf("%q is beyond the caps: %v", text, err)
		}
	})
}

// FuzzAppPassword: whatever is typed, what is understood has the one written form, and
// that form is understood as itself.
func FuzzAppPassword(f *testing.F) {
	f.Add("k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p")
	f.Add("K7M2Q94HW8T9N3XCOV5GBEIR7DZK2Y6P")
	f.Add(" k7m2q9 4hw8t–9n3xc‑0v5gb e1r7d zk2y6p\u00a0")
	f.Add(strings.Repeat("0", 33))
	f.Fuzz(func(t *testing.T, typed string) {
		p, ok := parseAppPassword(typed)
		if !ok {
			return
		}
		if len(typed) > maxSecret || len(p) != written || strings.Trim(string(p), alphabet+"-") != "" || len(p.selector()) != selectorLength {
			t.Errorf("%q is read as %q", typed, p)
		}
		if again, ok := parseAppPassword(string(p)); !ok || again != p {
			t.Errorf("%q is read as %q", p, again)
		}
		if bare, ok := parseAppPassword(strings.ToUpper(strings.ReplaceAll(string(p), "-", ""))); !ok || bare != p {
			t.Errorf("%q in capitals without dashes is read as %q", p, bare)
		}
	})
}

// FuzzUserName: a canonical name is one address without anything that a line
// protocol, a log or a list could trip over, and is its own canonical form.
func FuzzUserName(f *testing.F) {
	for _, name := range []string{"ann@example.org", "Ann+Phone@EXAMPLE.org.", "jörg@bücher.example", "ann", "a@b@c", "\"a b\"@example.org",
		"ann@xn--bcher-kva.example", "ann@[192.0.2.1]", "İ@example.org", "ann\u200b@example.org", "ann@example.org\x00", "ﬁ@ﬁ.example", "a@-b.example", "ａ@ｂ．example"} {
		f.Add(name, "example.org")
		f.Add(name, "")
	}
	f.Fuzz(func(t *testing.T, name, domain string) {
		user, err := userName(name, domain)
		if err != nil {
			return
		}
		again, err := userName(user, "")
		if err != nil || again != user {
			t.Errorf("%q becomes %q becomes %q, %v", name, user, again, err)
		}
		if strings.Count(user, "@") != 1 || strings.HasPrefix(user, "@") || strings.HasSuffix(user, "@") || len(user) > 128+1+253 {
			t.Errorf("%q becomes %q", name, user)
		}
		for _, r := range user {
			if unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune("\"\\,<>", r) {
				t.Errorf("%q keeps %q in %q", name, r, user)
			}
		}
	})
}

// TestPHC reads a hash of the reference implementation, one with several lanes, and
// refuses what is not strictly one.
func TestPHC(t *testing.T) {
	if ok, err := matches("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"); !ok || err != nil {
		t.Errorf("the reference implementation's hash: %v, %v", ok, err)
	}
	good := phc{Cost{Memory: 64, Time: 1, Threads: 4}, []byte("saltsalt"), argon2.IDKey([]byte("x"), []byte("saltsalt"), 1, 64, 4, 64)}.String()
	if ok, err := matches(good, "x"); !ok || err != nil {
		t.Errorf("four lanes and 64 bytes: %v, %v", ok, err)
	}
	if ok, err := matches(good, "y"); ok || err != nil {
		t.Errorf("another password: %v, %v", ok, err)
	}
	const salt, tag = "c29tZXNhbHQ", "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	for _, text := range []string{
		"", "$", "$$$$$", strings.Repeat("$", 300), "{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + tag,
		"$argon2i$v=19$m=64,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=16$m=64,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$m=64,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$t=1,m=64,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=1,p=1,keyid=x$" + salt + "$" + tag,
		"$argon2id$v=19$m=064,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=+64,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=7,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=0,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=1,p=0$" + salt + "$" + tag,
		"$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=4294967360,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=17,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=256,t=1,p=17$" + salt + "$" + tag,
		"$argon2id$v=19$m=256,t=1,p=257$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=1,p=1$c2FsdA$" + tag,
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "=$" + tag,
		"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHR$" + tag,
		"$argon2id$v=19$m=64,t=1,p=1$c29t\nZXNhbHQ$" + tag,
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$c2hvcnQ",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + tag + "$",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("A", 87),
	} {
		if read, err := parsePHC(text); err == nil {
			t.Errorf("%q is read as %v", text, read)
		}
	}
}

func TestUserName(t *testing.T) {
	for name, want := range map[string]string{
		"ann@example.org":           "ann@example.org",
		" Ann@Example.ORG. ":        "ann@example.org",
		"o'brien+x@example.org":     "o'brien+x@example.org",
		"jo\u0308rg@bücher.example": "jörg@xn--bcher-kva.example",
		"ann@XN--BCHER-KVA.example": "ann@xn--bcher-kva.example",
		"ann":                       "ann@fallback.example",
		"ann@":                      "", "@example.org": "", "": "", " ": "",
		"ann@a@example.org": "", "ann@example.org@": "", "an n@example.org": "", "ann@exa mple.org": "",
		"ann\t@example.org": "", "ann@example.org\n": "", "ann\x00@example.org": "", "ann\x7f@example.org": "", "ann\u0085@example.org": "",
		"ann\u202e@example.org": "", "a\u200dnn@example.org": "", "ann\u2028@example.org": "", "ann\xff@example.org": "",
		"\"ann\"@example.org": "ann@example.org", "\"a n\"@example.org": "", "<ann@example.org>": "", "ann@[192.0.2.1]": "", "ann@example..org": "", "ann@.example.org": "",
		"ann@-example.org": "", "ann@exa_mple.org": "", "ann@example.org/x": "", "ann,bob@example.org": "",
		strings.Repeat("a", 65) + "@example.org": strings.Repeat("a", 65) + "@example.org", strings.Repeat("a", 129) + "@example.org": "", "=?utf-8?q?ann?=@example.org": "", "ann..x@example.org": "", "ann@" + strings.Repeat("a", 64) + ".org": "", "ann@" + strings.Repeat("a.", 130) + "org": "",
		strings.Repeat("a", 1<<20): "",
	} {
		got, err := userName(name, "fallback.example")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.40q: %q, %v; want %q", name, got, err, want)
		}
	}
}
