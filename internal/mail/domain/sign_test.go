package domain

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

// newKeys makes a pair of keys in a folder of its own.
func newKeys(t testing.TB) (*Keys, string) {
	t.Helper()
	folder := t.TempDir()
	for selector, algorithm := range map[string]Algorithm{"e1": Ed25519, "r1": RSA2048} {
		if _, err := Create(t.Context(), folder, "example.org", selector, algorithm, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := OpenKeys(folder, "example.org")
	if err != nil {
		t.Fatal(err)
	}
	return keys, folder
}

// zone answers for the keys' records.
func zone(keys *Keys) func(string) ([]string, error) {
	return func(name string) ([]string, error) {
		for _, k := range keys.All() {
			if k.Name() == name {
				return []string{k.Record()}, nil
			}
		}
		return nil, fmt.Errorf("nobody asked for %s", name)
	}
}

func verify(t testing.TB, keys *Keys, message string) []error {
	t.Helper()
	found, err := dkim.VerifyWithOptions(strings.NewReader(message), &dkim.VerifyOptions{LookupTXT: zone(keys)})
	if err != nil {
		t.Fatal(err)
	}
	var out []error
	for _, v := range found {
		out = append(out, v.Err)
	}
	return out
}

// shapes are messages with every oddity that a body and a header can have.
func shapes() map[string]string {
	const header = "From: cron <root@example.org>\r\nTo: you@example.net\r\nSubject: report\r\nDate: Sun, 22 Nov 2026 03:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
	return map[string]string{
		"plain":             header + "\r\nHello.\r\n",
		"empty body":        header + "\r\n",
		"no body":           header,
		"no end of line":    header + "\r\nHello.",
		"header cut":        strings.TrimSuffix(header, "\r\n"),
		"blank lines":       header + "\r\n\r\n\r\nHello.\r\n\r\n\r\n\r\n",
		"only blank lines":  header + "\r\n\r\n\r\n\r\n",
		"only blanks":       header + "\r\n \t \r\n \r\n",
		"blanks at the end": header + "\r\nHello. \t \r\n \t two \t\r\n",
		"dots":              header + "\r\n.\r\n..\r\n.a\r\n",
		"8 bit":             header + "\r\nGr\xc3\xbc\xc3\x9fe \xff\xfe\x80\r\n",
		"8 bit header":      header + "X-Note: \xff\xfe\r\nComments: Gr\xc3\xbc\xc3\x9fe\r\n\r\nHello.\r\n",
		"nul":               header + "\r\na\x00b\r\n",
		"long line":         header + "\r\n" + strings.Repeat("x", 100_000) + "\r\n",
		"long header":       header + "References:" + strings.Repeat("\r\n <0123456789@example.org>", 400) + "\r\n\r\nHello.\r\n",
		"folded":            "From:\r\n cron\r\n\t<root@example.org>\r\nSubject:  a \t b\r\n  c \r\nTo : you@example.net\r\n\r\nHello.\r\n",
		"odd case":          "FROM: root@example.org\r\nsUBJECT: report\r\n\r\nHello.\r\n",
		"two subjects":      header + "Subject: again\r\nSubject: and again\r\n\r\nHello.\r\n",
		"lists":             header + "List-Id: <l.example.org>\r\nList-Unsubscribe: <https://example.org/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nHello.\r\n",
		"many parts":        header + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
	}
}

func TestSignaturesHold(t *testing.T) {
	keys, _ := newKeys(t)
	for name, message := range shapes() {
		t.Run(name, func(t *testing.T) {
			fields, err := keys.Sign(strings.NewReader(message))
			if err != nil {
				t.Fatal(err)
			}
			for line := range bytes.Lines(fields) {
				if len(line) > 998+2 || !bytes.HasSuffix(line, []byte("\r\n")) {
					t.Errorf("a line of %d bytes: %q", len(line), line)
				}
			}
			whole := string(fields) + message
			if !strings.Contains(message, "\r\n\r\n") {
				whole = string(fields) + strings.TrimSuffix(message, "\r\n") + "\r\n\r\n"
			}
			if got := verify(t, keys, whole); len(got) != 2 || got[0] != nil || got[1] != nil {
				t.Errorf("verified: %v", got)
			}
		})
	}
}

// TestSignaturesBreak changes what a reader would be shown.
func TestSignaturesBreak(t *testing.T) {
	keys, _ := newKeys(t)
	message := shapes()["plain"]
	fields, err := keys.Sign(strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	for name, changed := range map[string]string{
		"body":           strings.Replace(message, "Hello.", "Hello!", 1),
		"subject":        strings.Replace(message, "report", "invoice", 1),
		"second from":    "From: boss@example.org\r\n" + message,
		"second subject": "Subject: invoice\r\n" + message,
		"added reply-to": "Reply-To: evil@example.com\r\n" + message,
		"added type":     "Content-Type: text/html\r\n" + message,
	} {
		if got := verify(t, keys, string(fields)+changed); len(got) != 2 || got[0] == nil || got[1] == nil {
			t.Errorf("%s: verified: %v", name, got)
		}
	}
	for name, changed := range map[string]string{
		"added received": "Received: from a by b; Sun, 22 Nov 2026 03:00:00 +0000\r\n" + message,
		"added list-id":  "List-Id: <l.example.org>\r\n" + message,
		"added sender":   "Sender: list@example.org\r\n" + message,
	} {
		if got := verify(t, keys, string(fields)+changed); len(got) != 2 || got[0] != nil || got[1] != nil {
			t.Errorf("%s: verified: %v", name, got)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	keys, _ := newKeys(t)
	for name, message := range map[string]string{
		"no from":        "Subject: x\r\n\r\nHello.\r\n",
		"nothing":        "",
		"a huge header":  "From: a@example.org\r\nX: " + strings.Repeat("x", headerLimit) + "\r\n\r\n",
		"a hundred From": strings.Repeat("From: a@example.org\r\n", 500) + "\r\n",
	} {
		if _, err := keys.Sign(strings.NewReader(message)); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("disk gone")
	for name, message := range map[string]io.Reader{
		"in the header": io.MultiReader(strings.NewReader("From: a@example.org\r\n"), failing{broken}),
		"in the body":   io.MultiReader(strings.NewReader("From: a@example.org\r\n\r\nHello"), failing{broken}),
	} {
		if _, err := keys.Sign(message); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestManyListFields: fields that need not be signed give way before the line of names
// grows too long for SMTP.
func TestManyListFields(t *testing.T) {
	keys, _ := newKeys(t)
	message := "From: a@example.org\r\n" + strings.Repeat("List-Post: <mailto:l@example.org>\r\n", 200) + "\r\nHello.\r\n"
	fields, err := keys.Sign(strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(fields, []byte("List-Post")) {
		t.Errorf("%s", fields)
	}
	if got := verify(t, keys, string(fields)+message); slices.ContainsFunc(got, func(err error) bool { return err != nil }) {
		t.Errorf("verified: %v", got)
	}
}
