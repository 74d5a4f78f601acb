package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

func TestEdit(t *testing.T) {
	settings := []Setting{{Name: "provider", Text: "micro\"soft"}, {Name: "login", Text: "a@example.org"}, {Name: "flow"}, {Name: "senders", List: []string{"x", "y"}}}
	for _, c := range []struct{ name, before, after string }{
		{"empty file", "", "[account.a]\nprovider = \"micro\\\"soft\"\nlogin = \"a@example.org\"\nsenders = [\"x\", \"y\"]\n"},
		{"no last newline", "# c", "# c\n\n[account.a]\nprovider = \"micro\\\"soft\"\nlogin = \"a@example.org\"\nsenders = [\"x\", \"y\"]\n"},
		{"there", "# top\n[account.a] # one\n  # two\n  provider =   'x' # three\nlogin = 'q'\n\tflow = \"device\" # four\n\n# five\n[account.\"b@c\"]\nflow=\"paste\"\n",
			"# top\n[account.a] # one\n  # two\n  provider = \"micro\\\"soft\" # three\nlogin = \"a@example.org\"\nsenders = [\"x\", \"y\"]\n\n# five\n[account.\"b@c\"]\nflow=\"paste\"\n"},
		{"crlf", "[account.a]\r\nlogin = \"m\"\r\n", "[account.a]\r\nlogin = \"a@example.org\"\r\nprovider = \"micro\\\"soft\"\r\nsenders = [\"x\", \"y\"]\r\n"},
		{"header at end", "[account.a]\nlogin=\"z\"", "[account.a]\nlogin = \"a@example.org\"\nprovider = \"micro\\\"soft\"\nsenders = [\"x\", \"y\"]\n"},
		{"many lines", "[account.a]\nlogin=\"z\"\nsenders = [\n # hm\n 'a',\n]\nmailbox=\"q\"\n", "[account.a]\nlogin = \"a@example.org\"\nsenders = [\"x\", \"y\"]\nmailbox=\"q\"\nprovider = \"micro\\\"soft\"\n"},
	} {
		got, err := Edit("f", []byte(c.before), "account", "a", settings)
		if err != nil || string(got) != c.after {
			t.Errorf("%s: %v\ngot  %q\nwant %q", c.name, err, got, c.after)
		}
	}
}

func TestEditRefuses(t *testing.T) {
	settings := []Setting{{Name: "login", Text: "a@b"}}
	for _, before := range []string{
		"account = {a = {login = \"x@y\"}}\n",
		"account.a.login = \"x@y\"\n",
		"[account]\na.login = \"x@y\"\n",
		"[account]\na = {login=\"x@y\"}\n",
	} {
		if got, err := Edit("f", []byte(before), "account", "a", settings); !errors.Is(err, ErrByHand) {
			t.Errorf("%q: %q, %v", before, got, err)
		}
	}
	if _, err := Edit("f", []byte("[account.a]\nlogn=\"x\"\n"), "account", "a", settings); err == nil {
		t.Error("a faulty file was edited")
	}
	if _, err := Edit("f", nil, "account", "a\nb", settings); err == nil {
		t.Error("a name with a line break was taken")
	}
	if _, err := Edit("f", nil, "account", "a@b", []Setting{{Name: "flow", Text: "carrier pigeon"}}); err == nil {
		t.Error("a value that the file could not be read back with was taken")
	}
}

func TestSetKeepsLinkAndTightensMode(t *testing.T) {
	folder := t.TempDir()
	real, link := filepath.Join(folder, "dotfiles.toml"), filepath.Join(folder, "config.toml")
	os.WriteFile(real, []byte("# mine\n"), 0o644)
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if err := Set(t.Context(), link, "provider", "google", []Setting{{Name: "client_secret", Secret: secret.New("s")}}); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Lstat(link); info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced by a file")
	}
	info, _ := os.Stat(real)
	data, _ := os.ReadFile(real)
	if info.Mode().Perm() != 0o600 || string(data) != "# mine\n\n[provider.google]\nclient_secret = \"s\"\n" {
		t.Errorf("mode %o, %q", info.Mode(), data)
	}
}

// Whatever the file looks like, an edit leaves all lines of other sections, and all
// comments, byte for byte.
func TestEditKeepsEverythingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SampledFrom([]string{
			"# comment\n", "\n", "   # indented = \"not a key\"\n", "[account.b] # b\nlogin = 'b@c' # why\n",
			"[provider.google]\nclient_id = \"\"\"\n[account.a]\n\"\"\"\nscopes = [ # x\n \"a\", # ]\n]\n", "[key.gpg]\r\nrecipient = \"x\"\r\n",
		}), 0, 5).Draw(t, "pieces")
		own := rapid.SampledFrom([]string{"", "[account.a]\n", "[account.a]\nlogin = \"old@x\"\n", "[account.a] # c\n# d\nmailbox = 'm'\n"}).Draw(t, "own")
		at := rapid.IntRange(0, len(pieces)).Draw(t, "at")
		before := strings.Join(pieces[:at], "") + own + strings.Join(pieces[at:], "")
		if _, err := Parse("f", []byte(before)); err != nil {
			return // a section twice
		}
		login := rapid.StringMatching(`[ -~]{1,20}`).Draw(t, "login")
		after, err := Edit("f", []byte(before), "account", "a", []Setting{{Name: "login", Text: login}})
		if err != nil {
			t.Fatalf("%q: %v", before, err)
		}
		// Taking the new line out again must give the old file, less its old line.
		rest := strings.Replace(string(after), "login = "+quote(login), "", 1)
		want := strings.Replace(before, "login = \"old@x\"", "", 1)
		if own == "" {
			rest = strings.TrimSuffix(rest, "[account.a]\n\n")
			want = strings.TrimSuffix(rest, "\n")
			rest = want
			if !strings.HasPrefix(string(after), before) {
				t.Fatalf("%q became %q", before, after)
			}
		}
		if strings.Join(strings.Fields(rest), " ") != strings.Join(strings.Fields(want), " ") {
			t.Fatalf("%q became %q", before, after)
		}
	})
}

func FuzzParseAndEdit(f *testing.F) {
	f.Add([]byte(good), "a@example.org", "x")
	f.Add([]byte("[account.a]\r\nlogin=\"z\"#"), "a", "\"\\")
	f.Add([]byte("account.a.login='x'"), "a", "y")
	f.Fuzz(func(t *testing.T, data []byte, name, login string) {
		if len(data) > 4096 {
			return
		}
		if _, err := Parse("f", data); err != nil {
			return
		}
		after, err := Edit("f", data, "account", name, []Setting{{Name: "login", Text: login}})
		if err != nil {
			return
		}
		c, err := Parse("f", after)
		if err != nil || (login != "" && c.Accounts[name].Login != login) {
			t.Fatalf("%q became %q: %v", data, after, err)
		}
	})
}
