package domain

import (
	"crypto/rand"
	"testing"
)

// The key that Create returns is the one on disk, all of it.
func TestCreatedKeyHasItsRecord(t *testing.T) {
	folder := t.TempDir()
	for selector, algorithm := range map[string]Algorithm{"e1": Ed25519, "r1": RSA2048} {
		key, err := Create(t.Context(), folder, "example.org", selector, algorithm, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := OpenKeys(folder, "example.org")
		if err != nil {
			t.Fatal(err)
		}
		for _, kept := range keys.All() {
			if kept.Selector == selector && (key.Record() == "" || key.Record() != kept.Record()) {
				t.Errorf("%s: record %q, on disk %q", selector, key.Record(), kept.Record())
			}
		}
	}
}
