package tokenstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

func TestSealOpen(t *testing.T) {
	identity := newIdentity(t)
	for _, plain := range []string{"", "{}", "a\nb\n", strings.Repeat("x", plainLimit)} {
		sealed, err := seal("You@example.org", identity.Recipient(), []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) > sealedLimit {
			t.Errorf("%d bytes sealed are %d, over what is read again", len(plain), len(sealed))
		}
		got, err := open("You@example.org", identity, sealed)
		if err != nil || string(got) != plain {
			t.Errorf("open gives %d bytes, %v; want %d", len(got), err, len(plain))
		}
	}
	if _, err := seal("a", identity.Recipient(), make([]byte, plainLimit+1)); err == nil {
		t.Error("seal takes a grant that could not be read again")
	}
}

func TestOpenTellsKeyFromDamage(t *testing.T) {
	identity := newIdentity(t)
	sealed, err := seal("a", identity.Recipient(), []byte(`{"refresh":"secret"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open("a", newIdentity(t), sealed); !errors.Is(err, ErrNoKey) || errors.Is(err, ErrDamaged) {
		t.Errorf("another key: %v, want ErrNoKey alone", err)
	}
	if _, err := open("b", identity, sealed); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("renamed: %v, want ErrDamaged that names a", err)
	}
	if _, err := open("a", identity, append(sealed[:len(sealed):len(sealed)], 'x')); !errors.Is(err, ErrDamaged) {
		t.Errorf("appended: %v, want ErrDamaged", err)
	}
	for i := range sealed {
		if _, err := open("a", identity, sealed[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d of %d bytes: %v, want ErrDamaged", i, len(sealed), err)
		}
		changed := bytes.Clone(sealed)
		changed[i] ^= 0x20
		// In the recipient's line a change looks like another recipient.
		if _, err := open("a", identity, changed); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoKey) {
			t.Fatalf("byte %d of %d changed: %v", i, len(sealed), err)
		}
	}
}

func TestUnwrap(t *testing.T) {
	table := []struct{ envelope, plain, problem string }{
		{"letterlock-grant 1 a\nplain", "plain", ""},
		{"letterlock-grant 1 a\n", "", ""},
		{"letterlock-grant 1 b\nplain", "", `grant of "b"`},
		{"letterlock-grant 2 a\nplain", "", "newer version"},
		{"letterlock-grant 0 a\nplain", "", "no grant"},
		{"letterlock-grant x a\nplain", "", "no grant"},
		{"letterlock-grant 1 A\nplain", "", "no grant"},
		{"letterlock-grant 1  a\nplain", "", "no grant"},
		{"letterlock-grant 1 a", "", "no grant"},
		{"{}\n", "", "no grant"},
		{"", "", "no grant"},
		{"letterlock-grant 1 " + strings.Repeat("a", 600) + "\n", "", "under another name"},
	}
	for _, row := range table {
		plain, err := unwrap("a", []byte(row.envelope))
		if row.problem == "" {
			if err != nil || string(plain) != row.plain {
				t.Errorf("unwrap(%.40q) = %q, %v", row.envelope, plain, err)
			}
			continue
		}
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), row.problem) {
			t.Errorf("unwrap(%.40q): %v, want ErrDamaged with %q", row.envelope, err, row.problem)
		}
	}
}

func FuzzUnwrap(f *testing.F) {
	f.Add("a", []byte("letterlock-grant 1 a\nplain"))
	f.Add("a", []byte("letterlock-grant 2 a\nplain"))
	f.Add("", []byte("letterlock-grant 1 %\n"))
	f.Add("A", []byte("letterlock-grant 1 %41\n\n"))
	f.Fuzz(func(t *testing.T, name string, envelope []byte) {
		plain, err := unwrap(name, envelope)
		if err != nil {
			if !errors.Is(err, ErrDamaged) || plain != nil {
				t.Errorf("unwrap = %q, %v", plain, err)
			}
			return
		}
		if !bytes.HasSuffix(envelope, plain) || !bytes.HasPrefix(envelope, []byte(envelopeMagic)) {
			t.Errorf("unwrap(%q) makes %q up", envelope, plain)
		}
		if again, err := unwrap(name, wrap(name, plain)); err != nil || !bytes.Equal(again, plain) {
			t.Errorf("what was unwrapped does not wrap again: %v", err)
		}
		if _, err := unwrap(name+"x", envelope); err == nil {
			t.Error("one envelope for two names")
		}
	})
}

func FuzzOpen(f *testing.F) {
	identity, err := age.ParseX25519Identity("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := seal("a", identity.Recipient(), []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := open("a", identity, data); err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoKey) {
			t.Errorf("open: %v is neither damage nor key", err)
		}
	})
}
