package account

import (
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// BenchmarkTokenValid is the path of nearly every call: read, open, decode, hand out.
func BenchmarkTokenValid(b *testing.B) {
	m, _ := newSealed(b)
	now := time.Now()
	grant := testGrant("http://127.0.0.1:1/token", "refresh", now)
	grant.Access["mail"] = Access{Token: secret.New("access"), Issued: now, Expiry: now.Add(24 * time.Hour)}
	if err := m.Save(b.Context(), grant); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Token(b.Context(), testName, Want{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTokenRefresh is a whole refresh, without the network: lock, room, mark,
// write and their fsyncs.
func BenchmarkTokenRefresh(b *testing.B) {
	m, _ := newSealed(b)
	m.Exchange = rotating(func() time.Time { return time.Now().Add(-2 * time.Hour) }) // expired at once
	if err := m.Save(b.Context(), testGrant("http://127.0.0.1:1/token", "refresh", time.Now())); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Token(b.Context(), testName, Want{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	plain, err := encode(fullGrant())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		if _, err := decode(testName, plain); err != nil {
			b.Fatal(err)
		}
	}
}
