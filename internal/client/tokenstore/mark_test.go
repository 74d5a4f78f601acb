package tokenstore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzMark: a mark that somebody has written over is understood or damaged.
func FuzzMark(f *testing.F) {
	f.Add([]byte(`{"began":"2026-11-22T01:02:03Z","pid":7,"resource":"mail","serial":3}`))
	f.Add([]byte(`{"began":1}`))
	f.Add([]byte(``))
	f.Add([]byte(`{"pid":1e99}`))
	folder := filepath.Join(f.TempDir(), "grants")
	store, err := Open(folder)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(folder, "a"+markSuffix), data, 0o600); err != nil {
			t.Fatal(err)
		}
		mark, err := store.ReadMark("a")
		if (mark == nil) == (err == nil) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("%q: %+v, %v", data, mark, err)
		}
	})
}

// FuzzStatusLines: of what gpg writes only its status lines are believed, and none of
// them is shown.
func FuzzStatusLines(f *testing.F) {
	f.Add("[GNUPG:] ENC_TO 1234 18 0\ngpg: no\n")
	f.Add("gpg: [GNUPG:] ENC_TO forged\n[GNUPG:] ENC_TO")
	f.Add("\x1b[31m\n\n[GNUPG:] ENC_TO \xff\r\n")
	f.Fuzz(func(t *testing.T, stderr string) {
		for _, found := range statusLines(stderr, "ENC_TO") {
			if !strings.Contains("\n"+stderr, "\n[GNUPG:] ENC_TO ") || strings.Contains(found, "\n") {
				t.Fatalf("%q in %q", found, stderr)
			}
		}
		if shown := printable(stderr); bytes.ContainsAny([]byte(shown), "\x1b\n\r\x00") || strings.HasPrefix(shown, "[GNUPG:] ") && strings.HasPrefix(stderr, "[GNUPG:] ") {
			t.Fatalf("%q is shown as %q", stderr, shown)
		}
	})
}
