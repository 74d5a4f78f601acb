package domain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

func selectors(keys []Key) []string {
	var out []string
	for _, k := range keys {
		out = append(out, k.Selector)
	}
	slices.Sort(out)
	return out
}

func TestRotation(t *testing.T) {
	ctx, folder := t.Context(), t.TempDir()
	if _, err := OpenKeys(folder, "example.org"); !errors.Is(err, ErrNoKeys) {
		t.Errorf("no keys: %v", err)
	}
	for _, step := range []struct {
		selector  string
		algorithm Algorithm
		signs     bool
	}{{"e1", Ed25519, true}, {"r1", RSA2048, true}, {"e2", Ed25519, false}, {"r2.next", RSA3072, false}} {
		key, err := Create(ctx, folder, "Example.ORG.", step.selector, step.algorithm, rand.Reader)
		if err != nil || key.Signs != step.signs {
			t.Fatalf("%s: signs %v, %v", step.selector, key.Signs, err)
		}
	}
	signing := func(want ...string) {
		t.Helper()
		keys, err := OpenKeys(folder, "example.org")
		if err != nil {
			t.Fatal(err)
		}
		if got := selectors(keys.All()); !slices.Equal(got, want) {
			t.Errorf("%v sign, want %v", got, want)
		}
	}
	signing("e1", "r1")
	if err := Use(ctx, folder, "example.org", "r2.next"); err != nil {
		t.Fatal(err)
	}
	signing("e1", "r2.next")
	if err := Remove(ctx, folder, "example.org", "e1"); !errors.Is(err, ErrSigning) {
		t.Errorf("a signing key removed: %v", err)
	}
	if err := Remove(ctx, folder, "example.org", "r1"); err != nil {
		t.Error(err)
	}
	if err := Use(ctx, folder, "example.org", "r1"); !errors.Is(err, ErrNoKeys) {
		t.Errorf("a removed key signs: %v", err)
	}
	if err := Use(ctx, folder, "example.org", "e2"); err != nil {
		t.Fatal(err)
	}
	signing("e2", "r2.next")
	all, err := List(folder, "example.org")
	if err != nil || !slices.Equal(selectors(all), []string{"e1", "e2", "r2.next"}) {
		t.Errorf("all: %v, %v", selectors(all), err)
	}
	if names, err := Domains(folder); err != nil || !slices.Equal(names, []string{"example.org"}) {
		t.Errorf("domains: %v, %v", names, err)
	}
}

func TestKeysArePrivateAndKept(t *testing.T) {
	_, folder := newKeys(t)
	path := filepath.Join(folder, "example.org", "e1.pem")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Create(t.Context(), folder, "example.org", "e1", Ed25519, rand.Reader); !errors.Is(err, ErrExists) {
		t.Errorf("overwritten: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Error("the key has changed")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(folder, "example.org"); !errors.Is(err, atomicfile.ErrNotPrivate) {
		t.Errorf("a key that others may read: %v", err)
	}
}

// TestWaitingKeyHoldsUpNothing: only the keys that sign need be sound.
func TestWaitingKeyHoldsUpNothing(t *testing.T) {
	keys, folder := newKeys(t)
	if err := os.WriteFile(filepath.Join(folder, "example.org", "later.pem"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(folder, "example.org"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(keys.All()[0].Path); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(folder, "example.org"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a signing key is gone: %v", err)
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"Example.ORG": "example.org", "example.org.": "example.org", "bücher.example": "xn--bcher-kva.example", "a-b.c1.example": "a-b.c1.example",
		"": "", "org": "", "..": "", "../etc": "", "a..b": "", "-a.org": "", "a-.org": "", "a_b.org": "", "a/b.org": "", "a b.org": "", ".org": "",
		strings.Repeat("a", 64) + ".org": "", strings.Repeat("a.", 130) + "org": "", "a\x00.org": "",
	} {
		got, err := Name(in)
		if got != want || (err != nil) != (want == "") || err != nil && !errors.Is(err, ErrName) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, selector := range []string{"", "..", "../x", "a/b", "A", "a b", "a\n"} {
		if _, err := Create(t.Context(), t.TempDir(), "example.org", selector, Ed25519, rand.Reader); !errors.Is(err, ErrName) {
			t.Errorf("selector %q: %v", selector, err)
		}
	}
}

func TestParseKey(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, c := range map[string]struct {
		text []byte
		want Algorithm
	}{
		"ed25519":         {block("PRIVATE KEY", pkcs8), Ed25519},
		"opendkim's rsa":  {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), RSA2048},
		"too short":       {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(weak)), ""},
		"public":          {block("PUBLIC KEY", pkcs8), ""},
		"cut":             {block("PRIVATE KEY", pkcs8[:20]), ""},
		"two blocks":      {append(block("PRIVATE KEY", pkcs8), block("PRIVATE KEY", pkcs8)...), ""},
		"no pem":          {pkcs8, ""},
		"nothing":         {nil, ""},
		"encrypted block": {block("ENCRYPTED PRIVATE KEY", pkcs8), ""},
	} {
		_, got, err := parseKey(c.text)
		if got != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, ErrKey) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestRFC8463Vectors: the keys of appendix A give the records that stand there, and the
// message that stands there verifies by them.
func TestRFC8463Vectors(t *testing.T) {
	seed, err := base64.StdEncoding.DecodeString("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
	if err != nil {
		t.Fatal(err)
	}
	key := Key{Domain: "football.example.com", Selector: "brisbane", private: ed25519.NewKeyFromSeed(seed)}
	const published = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	if key.Record() != published {
		t.Errorf("%s", key.Record())
	}
	signed, err := os.ReadFile("testdata/rfc8463.eml")
	if err != nil {
		t.Fatal(err)
	}
	keys := &Keys{Domain: key.Domain, keys: []Key{key}}
	if got := verify(t, keys, string(signed)); len(got) != 2 || got[0] != nil {
		t.Errorf("the message of the RFC: %v", got) // its second signature is RSA of 1024 bits
	}
	// And ours of the same message with the same key.
	_, message, _ := strings.Cut(string(signed), "\r\nFrom:")
	fields, err := keys.Sign(strings.NewReader("From:" + message))
	if err != nil {
		t.Fatal(err)
	}
	if got := verify(t, keys, string(fields)+"From:"+message); len(got) != 1 || got[0] != nil {
		t.Errorf("our signature: %v", got)
	}
}
