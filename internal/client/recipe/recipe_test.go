package recipe

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

func facts(kind string) Facts {
	f := Facts{
		Account: "you@example.org", User: "you@example.org", From: "you@example.org", Command: "letterlock", Path: "/usr/local/bin/letterlock",
		IMAP: provider.MailServer{Host: "imap.example.org", Port: 993, Security: provider.ImplicitTLS},
		POP3: provider.MailServer{Host: "pop.example.org", Port: 995, Security: provider.ImplicitTLS},
		SMTP: provider.MailServer{Host: "smtp.example.org", Port: 465, Security: provider.ImplicitTLS},
	}
	if kind == "starttls" {
		f.Account, f.Mechanisms, f.CAFile = "work", []string{"XOAUTH2"}, "/etc/ssl/company.pem"
		f.IMAP.Port, f.IMAP.Security = 143, provider.STARTTLS
		f.POP3.Port, f.POP3.Security = 110, provider.STARTTLS
		f.SMTP.Port, f.SMTP.Security = 587, provider.STARTTLS
	}
	return f
}

// The golden files are what is run with the programs in `make test`; go test -update
// rewrites them.
func TestGolden(t *testing.T) {
	update := flag.Lookup("test.update")
	for _, r := range All() {
		for _, via := range r.Vias {
			for _, kind := range []string{"tls", "starttls"} {
				name := r.Client + "-" + string(via) + "-" + kind
				got, err := r.Render(via, facts(kind))
				if err != nil {
					var fault *cli.Fault
					if !errors.As(err, &fault) || fault.Hint == "" {
						t.Errorf("%s: %v has no hint", name, err)
						continue
					}
					got = "letterlock: " + fault.What + "\nletterlock: hint: " + fault.Hint + "\n"
				}
				path := filepath.Join("testdata", name+".golden")
				if update != nil && update.Value.String() == "true" {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil || got != string(want) {
					t.Errorf("%s: %v\ngot:\n%swant:\n%s", name, err, got, want)
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	mutt, _ := Lookup("mutt")
	alpine, _ := Lookup("alpine")
	if _, ok := Lookup("outlook"); ok {
		t.Error("there is a recipe for outlook")
	}
	evil := facts("tls")
	evil.Account = "a'$(id)"
	bare := facts("tls")
	bare.IMAP = provider.MailServer{}
	for _, c := range []struct {
		r    Recipe
		via  Via
		f    Facts
		code cli.Code
	}{
		{mutt, Token, evil, cli.DataError},
		{alpine, Token, facts("tls"), cli.Unavailable},
		{alpine, Tunnel, bare, cli.Config},
	} {
		out, err := c.r.Render(c.via, c.f)
		var fault *cli.Fault
		if out != "" || !errors.As(err, &fault) || fault.Code != c.code || fault.Hint == "" {
			t.Errorf("%s: %q, %v", c.r.Client, out, err)
		}
	}
}

// No recipe may put a token, or a place for a password, into a file.
func TestNoPasswordInAnyRecipe(t *testing.T) {
	for _, r := range All() {
		for _, via := range r.Vias {
			text, _ := r.Render(via, facts("tls"))
			lower := strings.ToLower(text)
			for _, word := range []string{"imap_pass", "smtp_pass", "\npass ", "password =", "password=", "remotepass "} {
				if strings.Contains(lower, word) {
					t.Errorf("%s by %s has %q", r.Client, via, word)
				}
			}
			if text != "" && r.Client != "git" && !strings.Contains(text, "letterlock") {
				t.Errorf("%s by %s does not call letterlock", r.Client, via)
			}
		}
	}
}

// TestMain adds the flag; a package variable would be there for every importer.
func TestMain(m *testing.M) {
	flag.Bool("test.update", false, "rewrite the golden files")
	flag.Parse()
	os.Exit(m.Run())
}
