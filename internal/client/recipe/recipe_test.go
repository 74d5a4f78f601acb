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
	spaced := facts("tls")
	spaced.Command = "/opt/my programs/letterlock"
	bare := facts("tls")
	bare.IMAP = provider.MailServer{}
	for _, c := range []struct {
		r    Recipe
		via  Via
		f    Facts
		code cli.Code
	}{
		{mutt, Token, evil, cli.DataError},
		{mutt, Token, spaced, cli.DataError},
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

// A name that means more to one of the programs than a name is refused for all: the
// first few would send the token to another host, or run a command.
func TestNamesThatAreMoreThanNames(t *testing.T) {
	for _, name := range []string{
		"evil.example/you@example.org", "you:x@example.org", "you/novalidate-cert@example.org", "a$(id)", "a`id`", "a'b", `a"b`, `a\b`,
		"a;b", "a|b", "a&b", "a b", "a\tb", "a\nset x", "a\u0085b", "a\u2028b", "a\u202eb", "a\u00a0b", "a[b]", "a]", "a{b}", "a,b", "-a", "a#b", "a%41", "a!b", "~a", "",
	} {
		for field := range 3 {
			f := facts("tls")
			*[]*string{&f.Account, &f.User, &f.From}[field] = name
			for _, r := range All() {
				for _, via := range r.Vias {
					if text, err := r.Render(via, f); err == nil {
						t.Errorf("%s by %s takes %q:\n%s", r.Client, via, name, text)
					}
				}
			}
		}
	}
	for _, name := range []string{"you@example.org", "you+list@example.org", "jörg@münchen.example", "a_b-c=d.e"} {
		f := facts("tls")
		f.Account, f.User, f.From = name, name, name
		if _, err := All()[0].Render("", f); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// With --system the command is two words, in a list of arguments too.
func TestSystemCommand(t *testing.T) {
	for _, r := range All() {
		for _, via := range r.Vias {
			f := facts("tls")
			f.Command, f.Path, f.System = "/usr/bin/letterlock", "/usr/bin/letterlock", true
			text, err := r.Render(via, f)
			if err != nil || r.Client == "git" {
				continue
			}
			// A shell's command line, a list of arguments, and Emacs' way of both.
			shell, list := "/usr/bin/letterlock --system t", `"/usr/bin/letterlock", "--system", "token"`
			lisp := strings.Contains(text, `"/usr/bin/letterlock" nil`) && strings.Contains(text, `"--system" "token"`)
			// Alpine keeps the path and its arguments apart.
			apart := strings.Contains(text, "ssh-path=/usr/bin/letterlock\n") && strings.Contains(text, "ssh-command=%s --system tunnel")
			if !strings.Contains(text, shell) && !strings.Contains(text, list) && !lisp && !apart {
				t.Errorf("%s by %s:\n%s", r.Client, via, text)
			}
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
