package tokenstore

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDecryptingKey(t *testing.T) {
	const (
		signOnly = "sec:u:255:22:AAAA:1:::u:::scSC:::+::ed25519:::0:\nfpr:::::::::SIGN:\nuid:u::::1::X::a@x::::::::::0:\n"
		subkey   = "sec:u:255:22:BBBB:1:::u:::scESC:::+::ed25519:::0:\nfpr:::::::::WITHSUB:\nssb:u:255:18:CCCC:1::::::e:::+::cv25519::\nfpr:::::::::SUB:\n"
		expired  = "sec:e:255:22:DDDD:1:2::u:::sc:::+::ed25519:::0:\nfpr:::::::::OLD:\nssb:e:255:18:EEEE:1:2:::::e:::+::cv25519::\n"
	)
	for text, want := range map[string]string{
		"": "", signOnly: "", expired: "", subkey: "WITHSUB",
		signOnly + expired + subkey: "WITHSUB", "sec:u": "", "sec:u:1:1:1:1:::::::e": "",
	} {
		if got := decryptingKey(parseColons([]byte(text))); got != want {
			t.Errorf("decryptingKey(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestStatusLines(t *testing.T) {
	stderr := "gpg: ENC_TO fake\n[GNUPG:] ENC_TO B597D5A539C7C86E 18 0\r\n[GNUPG:] ENC_TOO x\n[GNUPG:] ENC_TO 2"
	if got := statusLines(stderr, "ENC_TO"); !slices.Equal(got, []string{"B597D5A539C7C86E 18 0", "2"}) {
		t.Errorf("statusLines = %q", got)
	}
}

func TestGPGWithoutProgram(t *testing.T) {
	where := Surroundings{Environ: []string{"PATH=/nowhere"}}
	folder := filepath.Join(t.TempDir(), "keys")
	keys := NewGPG(folder, "", where)
	if err := keys.Create(t.Context()); err == nil || !strings.Contains(err.Error(), "no such program") {
		t.Errorf("Create = %v", err)
	}
	if _, err := keys.Identity(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("Identity = %v, want ErrNoKey", err)
	}
	if found := Detect(t.Context(), where)[1]; found.Source != "gpg" || found.Usable || found.Reason == "" {
		t.Errorf("Detect = %+v", found)
	}
}

func FuzzSecretKeyList(f *testing.F) {
	f.Add([]byte("sec:u:255:22:BBBB:1:::u:::scESC:::+::ed25519:::0:\nfpr:::::::::WITHSUB:\nssb:u:255:18:CCCC:1::::::e:::+::cv25519::\n"))
	f.Add([]byte("sec\nfpr\nsec:::::::::::e\nfpr:::::::::x"))
	f.Fuzz(func(t *testing.T, out []byte) {
		key := decryptingKey(parseColons(out))
		if key != "" && !strings.Contains(string(out), key) {
			t.Errorf("key %q is not in the list", key)
		}
		for _, line := range statusLines(string(out), "ENC_TO") {
			if strings.Contains(line, "\n") {
				t.Errorf("a status line of two: %q", line)
			}
		}
	})
}
