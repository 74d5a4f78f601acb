package factor

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/authenticator"
)

// FuzzAssertion: whatever a browser sends, nobody is proved but by the device that was
// asked. The challenge is put into what is sent where it holds a %.
func FuzzAssertion(f *testing.F) {
	b := newBench(f)
	d := authenticator.New(at)
	ctx := f.Context()
	answer, err := d.Create(must(b.NewPasskey(ctx, "portal", "browser", b.ann))(f))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := b.AddPasskey(ctx, "portal", "browser", b.ann, "", answer); err != nil {
		f.Fatal(err)
	}
	options := must(b.Ask(ctx, "signin", "browser", nil))(f)
	good := must(d.Get(options))(f)
	f.Add(good)
	f.Add(answer)
	f.Add(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"","signature":"","userHandle":""}}`)
	f.Add(strings.Replace(good, `"userHandle"`, `"userHandle":"AA","x"`, 1))
	f.Fuzz(func(t *testing.T, text string) {
		owner, proof, err := b.Prove(t.Context(), "signin", "browser", nil, netip.Addr{}, text)
		if err == nil && !same(text, good) {
			t.Fatalf("proved %+v %+v", owner, proof)
		}
		if err != nil && !rejection(err) {
			t.Fatalf("a fault of ours: %v", err)
		}
	})
}

// same compares what the device signed, which JSON can write in many ways.
func same(a, b string) bool {
	type answer struct {
		Response struct {
			Signature string `json:"signature"`
		} `json:"response"`
	}
	var x, y answer
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil &&
		strings.TrimRight(x.Response.Signature, "=") == strings.TrimRight(y.Response.Signature, "=")
}

func rejection(err error) bool {
	for _, no := range []error{ErrWrong, ErrSpent, ErrStale, ErrCloned, ErrTooMany} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// FuzzRegistration: what is taken for a new passkey answers a question of ours.
func FuzzRegistration(f *testing.F) {
	b := newBench(f)
	d := authenticator.New(at)
	good := must(d.Create(must(b.NewPasskey(f.Context(), "portal", "browser", b.ann))(f)))(f)
	f.Add(good, "name")
	f.Add(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"oGNmbXRkbm9uZQ"}}`, "\x00\xff")
	f.Add(strings.Replace(good, "usb", "tls", 1), strings.Repeat("n", 300))
	f.Fuzz(func(t *testing.T, text, name string) {
		key, err := b.AddPasskey(t.Context(), "portal", "browser", b.ann, name, text)
		switch {
		case err == nil:
			if key.Person != b.ann.ID || key.Name == "" || len([]rune(key.Name)) > maxKeyName || strings.ContainsAny(key.Name, "\r\n\x00\u202e") || len(key.PublicKey) == 0 {
				t.Fatalf("%+v", key)
			}
			if err := b.RemovePasskey(t.Context(), b.ann.ID, key.ID); err != nil {
				t.Fatal(err)
			}
		case !rejection(err):
			t.Fatalf("a fault of ours: %v", err)
		}
	})
}

// FuzzCode: what people type is six digits, a recovery code in its one form, or nothing.
func FuzzCode(f *testing.F) {
	for _, seed := range []string{"123456", "123 456", "12345", "abcde-fghjk-mnpqr-stvwx", "ABCDE FGHJK MNPQR STVWX", "OIL00-00000-00000-00000", "１２３４５６", "123456\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		digits, ok := normalDigits(typed)
		if ok && (len(digits) != 6 || strings.Trim(digits, "0123456789") != "") {
			t.Fatalf("%q became %q", typed, digits)
		}
		code, ok := normalCode(typed)
		if again, same := normalCode(code); ok && (len(code) != codeLength || strings.Trim(code, alphabet) != "" || !same || again != code) {
			t.Fatalf("%q became %q", typed, code)
		}
	})
}

// FuzzTicket: no ticket that was not made here opens.
func FuzzTicket(f *testing.F) {
	b := newBench(f)
	app := must(b.NewApp(b.ann))(f)
	f.Add(app.Ticket)
	f.Add("")
	f.Add(strings.Repeat("A", 80))
	f.Fuzz(func(t *testing.T, ticket string) {
		if _, _, err := b.openTicket(b.ann.ID, ticket); err == nil && strings.TrimRight(strings.Map(plain, ticket), "\r\n") != app.Ticket {
			t.Fatalf("%q opened", ticket)
		}
	})
}

// plain drops what base64 decoders skip.
func plain(r rune) rune {
	if r == '\r' || r == '\n' {
		return -1
	}
	return r
}
