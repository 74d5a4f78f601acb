package factor

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/authenticator"
)

// FuzzAssertion: whatever a browser sends, nobody is proved but by the device that was
// asked. What is sent is either the text, or when there is none a good answer with some of
// its bytes replaced: each process that fuzzes has a device of its own.
func FuzzAssertion(f *testing.F) {
	b := newBench(f)
	d := authenticator.New(at)
	ctx := f.Context()
	answer := must(d.Create(must(b.NewPasskey(ctx, "portal", "browser", b.ann))(f)))(f)
	if _, err := b.AddPasskey(ctx, "portal", "browser", b.ann, "", answer); err != nil {
		f.Fatal(err)
	}
	f.Add("", uint16(0), uint16(0), "")
	f.Add("", uint16(200), uint16(1), "A")
	f.Add(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"","signature":"","userHandle":""}}`, uint16(0), uint16(0), "")
	f.Add(answer, uint16(0), uint16(0), "")
	f.Fuzz(func(t *testing.T, text string, from, cut uint16, put string) {
		good := must(d.Get(must(b.Ask(t.Context(), "signin", "browser", nil))(t)))(t)
		if text == "" {
			from := int(from) % len(good)
			text = good[:from] + put + good[min(from+int(cut), len(good)):]
		}
		owner, proof, err := b.Prove(t.Context(), "signin", "browser", nil, netip.Addr{}, text)
		if err == nil && said(text) != said(good) {
			t.Fatalf("proved %+v %+v by %s", owner, proof, text)
		}
		if err != nil && !rejection(err) {
			t.Fatalf("a fault of ours: %v", err)
		}
	})
}

// said is what an answer says, which JSON can write in many ways.
func said(text string) (out struct {
	ID       string
	Response struct{ ClientDataJSON, AuthenticatorData, Signature, UserHandle string }
}) {
	_ = json.Unmarshal([]byte(text), &out)
	for _, part := range []*string{&out.ID, &out.Response.ClientDataJSON, &out.Response.AuthenticatorData, &out.Response.Signature, &out.Response.UserHandle} {
		*part = strings.TrimRight(strings.Map(plain, *part), "=")
		if data, err := base64.RawURLEncoding.DecodeString(*part); err == nil {
			*part = string(data) // the last letter has bits that say nothing
		}
	}
	return out
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
	b.o.Random = strings.NewReader(strings.Repeat("r", 100)) // the same in each process that fuzzes
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
