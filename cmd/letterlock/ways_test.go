package main

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/delivery"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

func TestMailboxes(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"home/ann", "home/file", "vmail/b.test/bob"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(root, "home/file")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "home/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ pattern, address, want string }{
		{"home/{local}/Maildir", "ann", "home/ann/Maildir"}, {"home/{local}/Maildir", "Ann@b.test", "home/ann/Maildir"},
		{"home/{local}/Maildir", "bob", ""}, {"home/{local}/Maildir", "file", ""}, {"home/{local}/Maildir", "..", ""}, {"home/{local}/Maildir", "", ""},
		{"home/{local}/Maildir", `"../home/ann"@b.test`, ""}, {"home/{local}/Maildir", "ann/../ann", ""}, {"home/{local}/Maildir", ".", ""},
		{"home/{local}/Maildir", "a\x00nn", ""}, {"home/{local}/Maildir", "-ann", ""},
		{"vmail/{domain}/{local}", "bob@B.test", "vmail/b.test/bob"}, {"vmail/{domain}/{local}", "bob@c.test", ""}, {"vmail/{domain}/{local}", "bob", ""},
		{"vmail/{domain}/{local}", "ann@b.test", ""}, {"vmail/{domain}/{local}", "bob@..", ""},
		{"all", "who@ever.test", "all"}, {"all", `"odd one"@ever.test`, "all"},
	} {
		got, err := mailboxes(filepath.Join(root, test.pattern))(test.address)
		if test.want == "" && !errors.Is(err, delivery.ErrNoMailbox) || test.want != "" && (err != nil || got != filepath.Join(root, test.want)) {
			t.Errorf("%s in %s: %q, %v", test.address, test.pattern, got, err)
		}
	}
}

func TestDestination(t *testing.T) {
	p := &program{conf: &config.Config{Accounts: map[string]config.Account{"out": {Way: "direct"}, "post": {}}}}
	key := func(account string, to ...string) string {
		e := queue.Envelope{Account: account}
		for _, address := range to {
			e.To = append(e.To, queue.Recipient{Address: address})
		}
		return p.destination(e, e.To[0])
	}
	if key("post", "a@x.test") != key("post", "a@y.test") {
		t.Error("one submission server has several destinations")
	}
	if key("out", "a@x.test") != key("out", "b@X.TEST", "c@x.test") || key("out", "a@x.test") == key("out", "a@y.test") {
		t.Error("a destination is a domain")
	}
	if key("out", "a@x.test", "b@y.test") != key("out", "a@z.test", "b@y.test") || key("out", "a@x.test", "b@y.test") == key("out", "a@x.test") {
		t.Error("a message to several domains goes out in one piece")
	}
}

// TestSigner: as the domain of From; where that has no keys, as the account's own; and
// where keys are asked for, nothing unsigned.
func TestSigner(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"own.test", "other.test"} {
		if _, err := domain.Create(t.Context(), folder, name, "s", domain.Ed25519, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	const body = "\r\n\r\nFrom: not@this.test\r\n"
	for _, test := range []struct {
		signer signer
		from   string
		want   string
	}{
		{signer{folder, "own.test", false}, "From: a@own.test", "d=own.test"},
		{signer{folder, "own.test", false}, "X: y\r\nFrom: A\r\n <a@OTHER.test>", "d=other.test"},
		{signer{folder, "own.test", false}, "From: a@third.test", "d=own.test"},
		{signer{folder, "own.test", false}, "Subject: x\r\nfrom: \"A, B\" <b@other.test>, a@own.test", "d=other.test"},
		{signer{folder, "none.test", false}, "From: a@none.test", ""},
		{signer{folder, "none.test", true}, "From: a@none.test", "error"},
		{signer{filepath.Join(folder, "gone"), "own.test", false}, "From: a@own.test", ""},
		{signer{filepath.Join(folder, "gone"), "own.test", true}, "From: a@own.test", "error"},
	} {
		got, err := test.signer.sign(strings.NewReader(test.from + body))
		switch {
		case test.want == "error":
			if !errors.Is(err, domain.ErrNoKeys) {
				t.Errorf("%s of %+v: %q, %v", test.from, test.signer, got, err)
			}
		case err != nil || (len(got) == 0) != (test.want == "") || !strings.Contains(string(got), test.want):
			t.Errorf("%s of %+v: %q, %v", test.from, test.signer, got, err)
		}
	}
}

// TestRouteOrder: the way that is asked for comes first, and what it cannot do goes on
// by the others that the same sign-in has.
func TestRouteOrder(t *testing.T) {
	p := &program{now: time.Now, getenv: func(string) string { return "" }, conf: &config.Config{
		Providers: map[string]config.Provider{"work": {Preset: "microsoft"}, "mine": {Preset: "google"}},
		Accounts: map[string]config.Account{
			"a@plain.test": {Provider: "work"}, "a@graph.test": {Provider: "work", Way: "graph"}, "a@sub.test": {Provider: "work", Way: "submission", Right: "send-only"},
			"a@google.test": {Provider: "google", Right: "send-only"}, "a@mine.test": {Provider: "mine", Way: "gmail"}, "a@wrong.test": {Provider: "work", Way: "gmail"},
		}}}
	for name, want := range map[string]string{
		"a@plain.test": "submission graph", "a@graph.test": "graph submission", "a@sub.test": "submission graph",
		"a@google.test": "gmail", "a@mine.test": "gmail submission", "a@wrong.test": "",
	} {
		r, err := (&ways{p: p}).route(name)
		var got []string
		for at := &r; err == nil && at != nil; at = at.Fallback {
			got = append(got, string(at.Way))
			if at.Tokens.(tokenSource).purpose == provider.IMAP {
				t.Error("a token that reads")
			}
		}
		if strings.Join(got, " ") != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, delivery.ErrRoute) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
