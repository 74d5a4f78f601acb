package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const good = `# my mail
default_key = "gpg"

[provider.google] # mine
client_id = "id-1"
client_secret_file = "/x"

[key.gpg]
recipient = "me@example.org"

[account."a@example.org"]
provider = "google"
senders = ["a@example.org", "b@example.org"]
imap = "[::1]:1143"
imap_security = "plain"

[account.office]
login = "a@example.org"
mailbox = "office@example.org"
right = "send-only"
smtp = "smtp.example.org"
`

func TestParse(t *testing.T) {
	c, err := Parse("f", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	a := c.Accounts["a@example.org"]
	if c.Key != "gpg" || c.Keys["gpg"].Source != "gpg" || c.Providers["google"].ClientID != "id-1" ||
		a.Provider != "google" || len(a.Senders) != 2 || a.IMAP != (Server{"::1", 1143, "plain"}) {
		t.Errorf("decoded wrongly: %+v", c)
	}
	if o := c.Accounts["office"]; o.Login != "a@example.org" || o.Right != "send-only" || o.SMTP.Host != "smtp.example.org" {
		t.Errorf("decoded wrongly: %+v", o)
	}
}

func TestAllFaultsAtOnceWithTheirLines(t *testing.T) {
	_, err := Parse("f", []byte(`defaultkey = "file"
[provider.google]
client_secret = 7
token_endpoint = "http://evil.example/"
clientid = "x"
[account.nobody]
provider = "google"
imap = "mail.example:0"
[account."a@b"]
key = "vault"
imap = "mail.example.org"
imap_security = "plain"
senders = ["a@b", 3]
right = "all"
login = "a\u0007b"
[key.pipe]
encrypt = ["x"]
[nonsense]
a = 1
`))
	var faults *Error
	if !errors.As(err, &faults) {
		t.Fatalf("err = %v", err)
	}
	want := []string{
		`f:1: unknown key "defaultkey" (did you mean "default_key"?)`,
		`f:3: client_secret in [provider.google] must be a string`,
		`f:4: token_endpoint in [provider.google] must be an https URL (plain http is for loopback hosts only)`,
		`f:5: unknown key "clientid" in [provider.google] (did you mean "client_id"?)`,
		`f:6: login is missing in [account.nobody], and its name is no address`,
		`f:8: imap in [account.nobody] has no usable port`,
		`f:10: key in [account."a@b"]: there is no key source "vault": use keyring, gpg, passphrase, systemd, file, or describe it in [key.vault]`,
		`f:12: imap_security in [account."a@b"]: plain text is for loopback hosts only, and mail.example.org is none`,
		`f:13: senders in [account."a@b"] must be an array of strings, and an element must be a string`,
		`f:14: right in [account."a@b"] must be one of full, send-only`,
		`f:15: login in [account."a@b"] holds a control character`,
		`f:16: encrypt and decrypt are both needed in [key.pipe]`,
		`f:18: unknown key "nonsense"`,
	}
	if got := strings.Join(faults.Lines(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestSyntaxFaultTellsTheLineAndNoValue(t *testing.T) {
	_, err := Parse("f", []byte("a = \"x\"\n[provider.g]\nclient_secret = \"c4n4ry\n"))
	if err == nil || !strings.HasPrefix(err.Error(), "f:3: no valid TOML") || strings.Contains(err.Error(), "c4n4ry") {
		t.Errorf("err = %v", err)
	}
}

func TestLoadRefusesLooseModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{"[provider.g]\nclient_secret = \"c4n4ry\"\n", 0o640, "mode 0640 lets others read the client_secret of [provider.g]"},
		{"[provider.g]\nclient_secret = \"c4n4ry\"\n", 0o600, ""},
		{"[provider.g]\nclient_id = \"x\"\n", 0o644, ""},
		{"[provider.g]\nclient_id = \"x\"\n", 0o646, "mode 0646 lets others change it"},
		{"[provider.g]\nclient_id = \"x\"\n", 0o664, "mode 0664 lets others change it"},
	} {
		os.WriteFile(path, []byte(c.text), c.mode)
		os.Chmod(path, c.mode)
		_, err := Load(path)
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("mode %o: err = %v, want %q", c.mode, err, c.want)
		case err != nil && strings.Contains(err.Error(), "c4n4ry"):
			t.Errorf("the error tells the secret: %v", err)
		}
	}
	if c, err := Load(filepath.Join(t.TempDir(), "none")); err != nil || c.Path != "" {
		t.Errorf("missing file: %+v, %v", c, err)
	}
}

func TestSampleIsAcceptedOnceUncommented(t *testing.T) {
	var lines, ways []string
	for line := range strings.Lines(Sample()) {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") {
			line = line[1:]
		}
		// Samples of keys that exclude each other or ask for a real thing.
		if strings.HasPrefix(line, "client_secret_file") || strings.Contains(line, `= "..."`) {
			continue
		}
		key, _, _ := strings.Cut(line, " ")
		if lookup(wayFields(), key) != nil {
			ways = append(ways, line)
			continue
		}
		lines = append(lines, line)
	}
	if _, err := Parse("sample", []byte(strings.Join(lines, ""))); err != nil && !strings.Contains(err.Error(), `login`) {
		t.Errorf("%v", err)
	}
	// Ways without a sign-in exclude the keys of one, and lmtp excludes maildir.
	for _, without := range []string{"lmtp", "maildir"} {
		text := "[account.example]\nmailbox = \"you@example.org\"\n"
		for _, line := range ways {
			if !strings.HasPrefix(line, without) {
				text += line
			}
		}
		c, err := Parse("sample", []byte(text))
		if err != nil || c.Accounts["example"].Hello != "mail.example.org" || c.Accounts["example"].Granted() || c.Accounts["example"].LMTP+c.Accounts["example"].Maildir == "" {
			t.Errorf("%+v, %v", c, err)
		}
	}
}

func TestWays(t *testing.T) {
	for text, want := range map[string]string{
		`way = "direct"`: "", `way = "graph"` + "\nprovider = \"microsoft\"": "", `way = "post"`: "must be one of submission, gmail, graph, direct, lmtp, maildir",
		`way = "lmtp"`: `f:2: lmtp is missing in [account."a@b"], and way = "lmtp" needs it`, `way = "maildir"`: "maildir is missing",
		"way = \"lmtp\"\nlmtp = \"/run/x\"": "", "way = \"lmtp\"\nlmtp = \"127.0.0.1:24\"": "", "way = \"lmtp\"\nlmtp = \"mx.test:24\"": "LMTP has no encryption",
		"way = \"lmtp\"\nlmtp = \"127.0.0.1\"": "LMTP has no encryption", "way = \"maildir\"\nmaildir = \"/home/{local}/Maildir\"": "",
		"way = \"maildir\"\nmaildir = \"/home/{user}/Maildir\"": "nothing else", "way = \"maildir\"\nmaildir = \"Maildir\"": "absolute path",
		"way = \"direct\"\nlocal_domains = [\"b\"]":                        "needs lmtp or maildir",
		"way = \"direct\"\nlmtp = \"/x\"\nmaildir = \"/y\"":                "exclude each other",
		"way = \"direct\"\nlocal_domains = [\"b\", \"c.\"]\nlmtp = \"/x\"": "must be a host or domain name",
		"way = \"direct\"\nprovider = \"google\"":                          "provider in [account.\"a@b\"] means nothing",
		"way = \"direct\"\nright = \"send-only\"":                          "means nothing",
		"way = \"direct\"\nsmtp = \"mail.b\"":                              "means nothing",
		"hello = \"mx.b\"":                                                 "f:2: hello in [account.\"a@b\"] means nothing: the account takes another way",
		"mta_sts = false":                                                  "means nothing", "private_networks = true": "means nothing",
		"way = \"direct\"\nmta_sts = \"no\"":                                           "must be true or false",
		"way = \"lmtp\"\nlmtp = \"/run/x\"\nmaildir = \"/y\"":                          "means nothing",
		"way = \"direct\"\nhello = \"mx.b\"\nmta_sts = false\nprivate_networks = true": "",
	} {
		_, err := Parse("f", []byte("[account.\"a@b\"]\n"+text+"\n"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
	if _, err := Parse("f", []byte("[account.out]\nway = \"direct\"\nsenders = [\"@example.org\"]\n")); err == nil || !strings.Contains(err.Error(), "set mailbox") {
		t.Error(err)
	}
	if _, err := Parse("f", []byte("[account.out]\nway = \"direct\"\nsenders = [\"@example.org\", \"root@example.org\"]\n")); err != nil {
		t.Error(err)
	}
}

func TestUserPaths(t *testing.T) {
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	p, err := UserPaths(env(map[string]string{"HOME": "/h", "XDG_STATE_HOME": "relative"}))
	if err != nil || p.Config != "/h/.config/letterlock/config.toml" || p.State != "/h/.local/state/letterlock" {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = UserPaths(env(map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}))
	if err != nil || p.Config != "/c/letterlock/config.toml" || p.State != "/s/letterlock" {
		t.Errorf("%+v, %v", p, err)
	}
	// env -i: the user database knows.
	if p, err = UserPaths(env(nil)); err != nil || !filepath.IsAbs(p.State) {
		t.Errorf("%+v, %v", p, err)
	}
}
