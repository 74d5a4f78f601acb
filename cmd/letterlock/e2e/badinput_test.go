//go:build linux

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A mistake is one way in which a person or a disk gets something wrong.
type mistake struct {
	name   string
	spoil  func(t *testing.T, h *home) // before, on a home that works
	args   []string
	stdin  string
	code   int
	what   string // regular expressions for the two lines
	hint   string
	stdout string // a mail program is told in its own protocol
}

// The files of a home that has signed in.
const (
	configFile = ".config/letterlock/config.toml"
	stateDir   = ".local/state/letterlock"
	grantFile  = stateDir + "/grants/you@example.org.age"
	keyFile    = stateDir + "/keys/identity.age-key"
)

func chmod(mode os.FileMode, name string) func(*testing.T, *home) {
	return func(t *testing.T, h *home) {
		if err := os.Chmod(h.path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
}

// linked moves a file or folder away and leaves a link to it in its place.
func linked(name string) func(*testing.T, *home) {
	return func(t *testing.T, h *home) {
		path := h.path(name)
		if err := errors.Join(os.Rename(path, path+".moved"), os.Symlink(path+".moved", path)); err != nil {
			t.Fatal(err)
		}
	}
}

func written(name, text string) func(*testing.T, *home) {
	return func(_ *testing.T, h *home) { h.write(name, text) }
}

// appended adds to the configuration that is there.
func appended(text string) func(*testing.T, *home) {
	return func(t *testing.T, h *home) {
		data, err := os.ReadFile(h.path(configFile))
		if err != nil {
			t.Fatal(err)
		}
		h.write(configFile, string(data)+text)
	}
}

const token = "token you@example.org"

// commandLines are wrong whatever there is in the home.
func commandLines() []mistake {
	return []mistake{
		{name: "no such command", args: words("tokne you@example.org"), code: 64, what: `no command "tokne"`, hint: `letterlock token`},
		{name: "no such command with escapes", args: []string{"\x1b[31mx"}, code: 64, what: `no command "\?\[31mx"`, hint: `--help`},
		{name: "no such flag", args: words(token + " --forever"), code: 64, what: `--forever`, hint: `token --help`},
		{name: "no such short flag", args: words(token + " -x"), code: 64, what: `-x`, hint: `token --help`},
		{name: "no such flag of letterlock", args: words("--forever"), code: 64, what: `--forever`, hint: `--help`},
		{name: "flag with escapes", args: []string{"token", "you@example.org", "--x\x1b]0;y\a"}, code: 64, what: `\?`, hint: `--help`},
		{name: "flag without its value", args: words(token + " --for"), code: 64, what: `--for`, hint: `--help`},
		{name: "no number", args: words(token + " --min-validity -5m"), code: 64, what: `must not be negative`, hint: `--help`},
		{name: "boolean with a value", args: words(token + " --json=perhaps"), code: 64, what: `perhaps`, hint: `--help`},
		{name: "token of nobody", args: words("token"), code: 64, what: `needs ACCOUNT`, hint: `--help`},
		{name: "logout of nobody", args: words("logout"), code: 64, what: `needs ACCOUNT`, hint: `--help`},
		{name: "test of nobody", args: words("test"), code: 64, what: `needs ACCOUNT`, hint: `--help`},
		{name: "tunnel to nothing", args: words("tunnel imap"), code: 64, what: `needs imap\|pop3\|smtp ACCOUNT`, hint: `--help`},
		{name: "accounts of somebody", args: words("accounts you@example.org"), code: 64, what: `takes no argument`, hint: `--help`},
		{name: "import without a file", args: words("import mutt_oauth2"), code: 64, what: `needs `, hint: `--help`},
		{name: "import from nowhere", args: words("import davmail x"), code: 64, what: `davmail`, hint: `mutt_oauth2`},
		{name: "import of no file", args: words("import mutt_oauth2 none"), code: 65, what: `there is no file none`, hint: `token file`},
		{name: "import of an empty file", spoil: written("empty", ""), args: words("import mutt_oauth2 empty --decryption-pipe cat"), code: 65, what: `empty|no token|not`, hint: `.`},
		{name: "import of garbage", spoil: written("garbage", "\x00\x1b[31m"), args: words("import mutt_oauth2 garbage --decryption-pipe cat"), code: 65, what: `.`, hint: `.`},
		{name: "explain nothing known", args: words("explain AADSTS1"), code: 65, what: `.`, hint: `.`},
		{name: "send-only with nothing to send", args: words("login you@example.org --provider nobody"), code: 78, what: `no provider "nobody"`, hint: `.`},
		{name: "two masters", args: words("login you@example.org --provider google --issuer https://login.example.org"), code: 64, what: `exclude each other`, hint: `.`},
		{name: "issuer in clear", args: words("login you@example.org --issuer http://login.example.org"), code: 64, what: `http`, hint: `https://`},
		{name: "certificates of nowhere", args: words("login you@example.org --issuer https://localhost:1 --ca-file none"), code: 78, what: `none`, hint: `ca_file|ca-file`},
		{name: "token from elsewhere, none", args: words("test you@example.org --token-stdin --imap localhost:1"), code: 65, what: `no token on standard input`, hint: `pipe`},
	}
}

// names are wrong ways to call an account.
func names() []mistake {
	return []mistake{
		{name: "unknown account", args: words("token nobody@example.org"), code: 67, what: `no account "nobody@example.org"`, hint: `letterlock accounts`},
		{name: "unknown account to sign out", args: words("logout nobody@example.org"), code: 67, what: `no account "nobody@example.org"`, hint: `letterlock accounts`},
		{name: "unknown account to test", args: words("test nobody@example.org"), code: 67, what: `no account "nobody@example.org"`, hint: `letterlock accounts`},
		{name: "unknown account to set up", args: words("setup mutt nobody@example.org"), code: 67, what: `no account "nobody@example.org"`, hint: `letterlock accounts`},
		{name: "unknown account for a tunnel", args: words("tunnel imap nobody@example.org"), code: 67, what: `no account "nobody@example.org"`, hint: `letterlock accounts`, stdout: `^\* BYE .*\r\n$`},
		{name: "address with control characters", args: []string{"login", "you\x1b[2J@example.org"}, code: 67, what: `you\?\[2J@example.org`, hint: `you@example.org`},
		{name: "address with a line end", args: []string{"login", "you@example.org\nBcc: x@example.org"}, code: 67, what: `.`, hint: `you@example.org`},
		{name: "address with a direction override", args: []string{"login", "you\u202egro.elpmaxe@x.org"}, code: 67, what: `you\?gro.*control character`, hint: `you@example.org`},
		{name: "address that is no UTF-8", args: []string{"login", "you\xff@example.org"}, code: 67, what: `.`, hint: `you@example.org`},
		{name: "address without a domain", args: words("login you@"), code: 67, what: `no mail address`, hint: `you@example.org`},
		{name: "account with control characters", args: []string{"token", "you\x1b[2J\x07"}, code: 67, what: `you\?\[2J\?`, hint: `letterlock accounts`},
		{name: "account with a zero byte's neighbour", args: []string{"token", "\x01"}, code: 67, what: `.`, hint: `letterlock accounts`},
		{name: "account that climbs", args: []string{"token", "../../../etc/passwd"}, code: 67, what: `no account`, hint: `letterlock accounts`},
		{name: "account without a name", args: []string{"token", ""}, code: 67, what: `.`, hint: `letterlock accounts`},
		{name: "account too long", args: []string{"token", strings.Repeat("a", 5000)}, code: 67, what: `.`, hint: `letterlock accounts`},
		{name: "account name of login with escapes", args: []string{"login", "you@example.org", "--account", "a\x1bb"}, code: 67, what: `a\?b`, hint: `.`},
	}
}

// configurations are wrong ways to write the file.
func configurations() []mistake {
	return []mistake{
		{name: "unknown key", spoil: appended("[provider.google]\nclientid = \"x\"\n"), args: words(token), code: 78, what: `config.toml:\d+: unknown key "clientid".*did you mean "client_id"`, hint: `nothing was done`},
		{name: "unknown section", spoil: appended("[accounts.x]\nprovider = \"google\"\n"), args: words(token), code: 78, what: `config.toml:\d+: unknown .*accounts`, hint: `nothing was done`},
		{name: "wrong type", spoil: appended("[provider.google]\nclient_id = 7\n"), args: words(token), code: 78, what: `config.toml:\d+: .*must be a string`, hint: `nothing was done`},
		{name: "no TOML", spoil: appended("[provider.google\n"), args: words(token), code: 78, what: `config.toml:\d+: no valid TOML`, hint: `nothing was done`},
		{name: "a secret in broken TOML", spoil: appended("[provider.google]\nclient_secret = \"C4nSecret\x00\"\n"), args: words(token), code: 78, what: `config.toml:\d+: no valid TOML`, hint: `nothing was done`},
		{name: "binary file", spoil: written(configFile, "\x7fELF\x00\xff\xfe"), args: words(token), code: 78, what: `config.toml`, hint: `nothing was done`},
		{name: "a section twice", spoil: appended("[provider.a]\nissuer = \"https://a.example\"\n[provider.a]\nissuer = \"https://b.example\"\n"), args: words(token), code: 78, what: `config.toml:\d+: no valid TOML`, hint: `nothing was done`},
		{name: "escapes in a key", spoil: appended("[provider.google]\n\"\\u001b[2J\" = 1\n"), args: words(token), code: 78, what: `config.toml:\d+: unknown key`, hint: `nothing was done`},
		{name: "a huge file", spoil: written(configFile, strings.Repeat("# nothing\n", 1<<20)), args: words(token), code: 78, what: `config.toml: larger than`, hint: `.`},
		{name: "a folder in its place", spoil: func(t *testing.T, h *home) {
			if err := errors.Join(os.Remove(h.path(configFile)), os.Mkdir(h.path(configFile), 0o700)); err != nil {
				t.Fatal(err)
			}
		}, args: words(token), code: 78, what: `config.toml: no regular file`, hint: `.`},
		{name: "a pipe in its place", spoil: func(t *testing.T, h *home) {
			if err := errors.Join(os.Remove(h.path(configFile)), syscall.Mkfifo(h.path(configFile), 0o600)); err != nil {
				t.Fatal(err)
			}
		}, args: words(token), code: 78, what: `config.toml: no regular file`, hint: `.`},
		{name: "everybody may write it", spoil: chmod(0o666, configFile), args: words(token), code: 78, what: `mode 0666 lets others change it`, hint: `chmod 600`},
		{name: "everybody may read a secret in it", spoil: func(t *testing.T, h *home) {
			appended("[provider.google]\nclient_secret = \"C4nSecret\"\n")(t, h)
			chmod(0o644, configFile)(t, h)
		}, args: words("accounts"), code: 78, what: `mode 0644 lets others read the client_secret`, hint: `chmod 600`},
		{name: "key source of no section", spoil: appended("key = \"vault\"\n"), args: words("token other@example.org"), code: 78, what: `config.toml:\d+`, hint: `nothing was done`},
		{name: "pipe without commands", spoil: appended("[key.vault]\nsource = \"pipe\"\n"), args: words(token), code: 78, what: `config.toml:\d+`, hint: `nothing was done`},
	}
}

// disks are stores that others could get at, or that are damaged.
func disks() []mistake {
	return []mistake{
		{name: "loose grants folder", spoil: chmod(0o755, stateDir+"/grants"), args: words(token), code: 78, what: `grants has mode 0755`, hint: `chmod go-rwx.*nothing was changed`},
		{name: "loose grant", spoil: chmod(0o644, grantFile), args: words(token), code: 78, what: `age has mode 0644`, hint: `chmod go-rwx`},
		{name: "loose keys folder", spoil: chmod(0o750, stateDir+"/keys"), args: words(token), code: 78, what: `keys has mode 0750`, hint: `chmod go-rwx`},
		{name: "loose key", spoil: chmod(0o640, keyFile), args: words(token), code: 78, what: `age-key has mode 0640`, hint: `chmod go-rwx`},
		{name: "linked grants folder", spoil: linked(stateDir + "/grants"), args: words(token), code: 78, what: `grants`, hint: `nothing was changed`},
		{name: "linked grant", spoil: linked(grantFile), args: words(token), code: 78, what: `you@example.org.age`, hint: `nothing was changed`},
		{name: "linked key", spoil: linked(keyFile), args: words(token), code: 78, what: `identity.age-key`, hint: `nothing was changed`},
		{name: "a file in the folder's place", spoil: func(t *testing.T, h *home) {
			if err := errors.Join(os.RemoveAll(h.path(stateDir)), os.WriteFile(h.path(stateDir), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, args: words(token), code: 73, what: `not a directory`, hint: `nothing was changed`},
		{name: "loose grants and logout", spoil: chmod(0o777, stateDir+"/grants"), args: words("logout you@example.org --local"), code: 78, what: `grants has mode 0777`, hint: `chmod go-rwx`},
		{name: "grant of somebody else", spoil: func(t *testing.T, h *home) {
			if os.Geteuid() != 0 {
				return
			}
			if err := os.Chown(h.path(grantFile), 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}, args: words(token), code: 78, what: `you@example.org.age`, hint: `chown`},
		{name: "empty grant", spoil: written(grantFile, ""), args: words(token), code: 65, what: `damaged`, hint: `letterlock login`},
		{name: "grant cut off", spoil: func(t *testing.T, h *home) {
			if err := os.Truncate(h.path(grantFile), 300); err != nil {
				t.Fatal(err)
			}
		}, args: words(token), code: 65, what: `damaged`, hint: `letterlock login`},
		{name: "grant under another name", spoil: func(t *testing.T, h *home) {
			if err := os.Rename(h.path(grantFile), h.path(stateDir+"/grants/me@example.org.age")); err != nil {
				t.Fatal(err)
			}
		}, args: words("token me@example.org"), code: 65, what: `damaged`, hint: `letterlock login`},
		{name: "huge grant", spoil: written(grantFile, strings.Repeat("x", 4<<20)), args: words(token), code: 65, what: `damaged`, hint: `letterlock login`},
		{name: "damaged key", spoil: written(keyFile, "AGE-SECRET-KEY-1QQQ\n"), args: words(token), code: 78, what: `identity.age-key`, hint: `letterlock login`},
		{name: "no key", spoil: func(t *testing.T, h *home) {
			if err := os.Remove(h.path(keyFile)); err != nil {
				t.Fatal(err)
			}
		}, args: words(token), code: 78, what: `identity.age-key`, hint: `letterlock login`},
		{name: "another key", spoil: func(t *testing.T, h *home) {
			other := newHome(t)
			if err := os.Remove(h.path(keyFile)); err != nil {
				t.Fatal(err)
			}
			makeKey(t, other)
			if err := os.Rename(other.path(keyFile), h.path(keyFile)); err != nil {
				t.Fatal(err)
			}
		}, args: words(token), code: 78, what: `.`, hint: `letterlock login`},
	}
}

// makeKey lets a login that finds no issuer make a key.
func makeKey(t *testing.T, h *home) {
	t.Helper()
	i := newIssuer(t, &cage{})
	h.mustPaste(i, i.accountArgs("--flow", "paste")...)
}

// TestBadInput wants of every mistake: one line what, one line what to do, the exit
// code, nothing on standard output, and not a byte changed anywhere in the home.
func TestBadInput(t *testing.T) {
	i := newIssuer(t, &cage{})
	original := newHome(t)
	original.mustPaste(i, i.accountArgs("--flow", "paste", "--imap", "imap.example.org")...)
	for _, table := range [][]mistake{commandLines(), names(), configurations(), disks()} {
		for _, m := range table {
			t.Run(m.name, func(t *testing.T) {
				h := newHome(t)
				if err := os.CopyFS(h.dir, os.DirFS(original.dir)); err != nil {
					t.Fatal(err)
				}
				tighten(t, h.dir)
				m.check(t, h)
			})
		}
	}
	if n := i.asked("token refresh_token"); n != 0 {
		t.Errorf("the provider was asked for %d tokens", n)
	}
}

// A new computer shows the same, and stays as empty as it was.
func TestBadInputInAnEmptyHome(t *testing.T) {
	for _, table := range [][]mistake{commandLines(), names()} {
		for _, m := range table {
			t.Run(m.name, func(t *testing.T) { m.check(t, newHome(t)) })
		}
	}
}

// tighten gives a copy the modes of the original: os.CopyFS makes them looser.
func tighten(t *testing.T, dir string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode()&^0o077)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (m mistake) check(t *testing.T, h *home) {
	t.Helper()
	if m.spoil != nil {
		m.spoil(t, h)
	}
	before := state(t, h.dir)
	r := h.run(m.stdin, "letterlock", m.args...)
	if r.code != m.code {
		t.Errorf("exit code %d, want %d", r.code, m.code)
	}
	m.checkText(t, r)
	if after := state(t, h.dir); after != before {
		t.Errorf("something has changed:\n%s", differences(before, after))
	}
	if t.Failed() {
		t.Log(r)
	}
}

func (m mistake) checkText(t *testing.T, r result) {
	t.Helper()
	if m.stdout == "" && r.stdout != "" || !regexp.MustCompile(m.stdout).MatchString(r.stdout) {
		t.Errorf("standard output: %q", r.stdout)
	}
	what, hint, _ := strings.Cut(strings.TrimSuffix(r.stderr, "\n"), "\n")
	if strings.Contains(hint, "\n") || !strings.HasPrefix(what, "letterlock: ") || strings.HasPrefix(what, "letterlock: hint: ") || !strings.HasPrefix(hint, "letterlock: hint: ") {
		t.Errorf("not one line what and one line what to do:\n%s", r.stderr)
	}
	if !regexp.MustCompile(m.what).MatchString(what) || !regexp.MustCompile(m.hint).MatchString(hint) {
		t.Errorf("want %q and %q", m.what, m.hint)
	}
	if strings.ContainsAny(r.stderr, "\x1b\x07\x00\u202e") || strings.Contains(r.stderr, "C4nSecret") || len(r.stderr) > 3000 {
		t.Errorf("standard error is not fit for a terminal: %q", r.stderr)
	}
}

func words(line string) []string { return strings.Fields(line) }

// Without a place for its output a command must not say that all went well.
func TestOutputThatCannotBeWritten(t *testing.T) {
	i := newIssuer(t, &cage{})
	h := newHome(t)
	h.mustPaste(i, i.accountArgs("--flow", "paste", "--imap", "imap.example.org", "--smtp", "smtp.example.org")...)
	before := state(t, h.dir)
	for _, line := range []string{
		token, token + " --json", token + " --netrc", token + " --curl", token + " --sasl xoauth2",
		"accounts", "accounts --json", "report", "report --json", "setup --list", "setup mutt you@example.org",
		"explain invalid_grant", "explain invalid_grant --json", "version", "--help", "token --help", "help token", "completion bash",
	} {
		t.Run(line, func(t *testing.T) {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer full.Close()
			var said strings.Builder
			cmd := h.command(within(t), "letterlock", words(line)...)
			cmd.Stdout, cmd.Stderr = full, &said
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 73 {
				t.Errorf("%v, want exit code 73", err)
			}
			// setup has a remark first, on which file it means.
			_, faults, _ := strings.Cut("\n"+said.String(), "\nletterlock: ")
			mistake{what: `standard output: .*no space left`, hint: `make room`}.checkText(t, result{stderr: "letterlock: " + faults})
		})
	}
	if after := state(t, h.dir); after != before {
		t.Errorf("something has changed:\n%s", differences(before, after))
	}
}

// A closed standard output: the Go runtime opens /dev/null in its place before main
// runs, so that no socket can get its number. There is nobody to tell, and nothing to
// be lost.
func TestClosedOutput(t *testing.T) {
	i := newIssuer(t, &cage{})
	h := newHome(t)
	h.mustPaste(i, i.accountArgs("--flow", "paste")...)
	for _, closed := range []string{">&-", "<&- >&-", "<&- >&- 2>&-"} {
		before := state(t, h.dir)
		r := h.run("", "sh", "-c", binary(t)+" token you@example.org "+closed)
		if r.code != 0 || r.stdout != "" || r.stderr != "" {
			t.Errorf("%s: %v", closed, r)
		}
		if after := state(t, h.dir); after != before {
			t.Errorf("%s: something has changed:\n%s", closed, differences(before, after))
		}
	}
}
