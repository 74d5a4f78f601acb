package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// The annotated sample, with every key switched on, is a good file once what excludes
// each other is left to one: all samples in the manual are such as work.
func TestDaemonSample(t *testing.T) {
	var b strings.Builder
	for _, section := range DescribeDaemon() {
		b.WriteString(strings.Replace(section.Name, "NAME", "node1", 1) + "\n")
		for _, key := range section.Keys {
			if key.Sample != "" {
				b.WriteString(key.Name + " = " + key.Sample + "\n")
			}
		}
	}
	c, err := ParseDaemon("f", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Throttle.Allow) != 1 || c.Doveadm["node1"].KeyFile == "" ||
		c.Postfix.SASL == "" || c.Passwords.OutageGrace != 15*time.Minute || !slices.Equal(c.Domains, []string{"example.org"}) {
		t.Errorf("%+v", c)
	}
}

func TestFallbackFaults(t *testing.T) {
	for more, want := range map[string]string{"": "f:3: fallback in [postfix] needs sasl", "sasl = \"/run/dovecot/auth\"\n": "f:3: fallback in [postfix] is sasl itself"} {
		_, err := ParseDaemon("f", []byte("domains = [\"example.org\"]\n[postfix]\nfallback = \"/run/dovecot/auth\"\n"+more))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestDaemonFaults(t *testing.T) {
	_, err := ParseDaemon("f", []byte(`domains = ["Example.org", "x"]
[database]
url = "postgres://me:secret@db/x"
[throttle]
allow = ["10.0.0.1/8"]
[metrics]
listen = "0.0.0.0:80"
[postfix]
sasl = "192.0.2.1:12345"
milter = "relative"
without_tls = "yes"
[dovecot]
listen = "0.0.0.0:12001"
[doveadm.one]
url = "https://node1.example.org/doveadm/v1"
[passwords]
memory = 1
outage_grace = "forever"
[nowhere]
[web]
listen = "0.0.0.0:443"
public_url = "https://id.example.org/path"
key = "/k"
[signin.Octo]
type = "github"
client_id = "x"
team = 3
claim = "groups"
provision = true
[signin.op]
type = "oidc"
client_id = "x"
url = "https://github.com"
values = ["a"]
`))
	var faults *Error
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	want := []string{
		"f:1: domains must be an array of strings, and an element must be a domain in lower case (an international one as xn--…)",
		"f:3: url in [database] holds a password: put the URL into a file and name it in url_file",
		"f:5: allow in [throttle] has a network with bits set behind its mask: 10.0.0.0/8 is probably meant",
		"f:7: listen in [metrics] must be on loopback: what is said there is not encrypted",
		"f:9: sasl in [postfix] must be an absolute path, or HOST:PORT on loopback",
		"f:10: milter in [postfix] must be an absolute path, or HOST:PORT on loopback",
		"f:11: without_tls in [postfix] must be true or false",
		"f:13: listen in [dovecot] must be on loopback: what is said there is not encrypted",
		"f:14: url and key_file are both needed in [doveadm.one]",
		"f:21: listen in [web]: without certificate and key only a loopback address, with a proxy in front that speaks TLS",
		"f:22: public_url in [web] must end with the host: no path, no slash",
		"f:20: certificate and key in [web] belong together: one is missing",
		"f:24: the name of a section stands in an address: at most 40 of a-z, 0-9 and -",
		"f:24: client_secret_file is missing in [signin.Octo]: GitHub wants a secret",
		"f:24: team in [signin.Octo] needs organization, which it belongs to",
		"f:24: issuer, claim, values and scopes in [signin.Octo] are for type oidc",
		"f:24: provision needs bind_verified in [signin.Octo]: a person is made for a verified address",
		"f:30: issuer is missing in [signin.op]",
		"f:30: url, organization and team in [signin.op] are for type github",
		"f:30: claim and values in [signin.op] belong together: one is missing",
		"f:17: memory in [passwords] must be a number from 7168 to 1048576",
	}
	got := faults.Lines()
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	if !strings.Contains(strings.Join(got, "\n"), `unknown key "nowhere"`) || strings.Contains(strings.Join(got, "\n"), "secret@") {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}
}

// What needs another setting says so.
func TestDaemonBelongsTogether(t *testing.T) {
	for text, good := range map[string]bool{
		"domains = [\"a.test\"]\n[postfix]\nsasl = \"/run/x\"\n":                      true,
		"[postfix]\nsasl = \"/run/x\"\n":                                              false,
		"domains = [\"a.test\"]\n[dovecot]\nlisten = \"127.0.0.1:1\"\n":               false,
		"domains = [\"a.test\"]\n[dovecot]\nlisten=\"[::1]:1\"\nsecret_file=\"/s\"\n": true,
	} {
		if _, err := ParseDaemon("f", []byte(text)); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestLoadDaemon(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "letterlockd.toml")
	c, err := LoadDaemon(path)
	if err != nil || c.Path != "" || c.Database.URL == "" {
		t.Fatalf("the first hour: %+v, %v", c, err)
	}
	url := filepath.Join(folder, "url")
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "[database]\nurl_file = \""+filepath.ToSlash(url)+"\"\n", 0o644)
	write(url, "postgres://me:hush@db/x\nmore", 0o640)
	if c, err = LoadDaemon(path); err != nil {
		t.Fatal(err)
	}
	got, err := c.DatabaseURL()
	if err != nil || got.Reveal() != "postgres://me:hush@db/x" {
		t.Errorf("%v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	write(url, "postgres://me:hush@db/x\n", 0o644)
	if _, err := c.DatabaseURL(); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("a secret that all can read: %v", err)
	}
	write(path, "", 0o666)
	if _, err := LoadDaemon(path); err == nil {
		t.Error("a file that all can write was believed")
	}
}

func FuzzParseDaemon(f *testing.F) {
	f.Add([]byte("domains = [\"a.test\"]\n[throttle]\nallow = [\"::1\"]\n"))
	f.Add([]byte("[doveadm.a]\nurl = \"https://x/\"\n[passwords]\noutage_grace = \"3d\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseDaemon("f", data)
		if err != nil {
			return
		}
		var tree map[string]any
		if toml.Unmarshal(data, &tree) != nil {
			t.Fatal("accepted what is no TOML")
		}
		for _, listen := range []string{c.Dovecot.Listen, c.Metrics.Listen} {
			if listen != "" && !loopbackAddress(listen) {
				t.Fatalf("plain text on %s", listen)
			}
		}
	})
}
