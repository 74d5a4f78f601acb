//go:build lab && linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/pty"
)

const passphrase = "C4n correct horse battery" // of gpg's key, the keyring, and the pipe

// A lockbox is a key source as a person has it: with what it takes to lock its key,
// and to unlock it again.
type lockbox struct {
	name   string
	config string   // a [key.NAME] section, with %s for the home
	env    []string // how letterlock finds it
	key    string   // --key
	lock   func(t *testing.T)
	unlock func(t *testing.T) // nil: by a person at the terminal
	// elsewhere is env on a computer that has only a copy of the state folder, and what
	// a token is refused with there.
	elsewhere []string
	code      int
}

func gpgBox(t *testing.T) lockbox {
	g, other := lab.RunGPG(t, lab.GPGOptions{Passphrase: passphrase, Pinentry: "/usr/bin/pinentry-tty"}), lab.RunGPG(t, lab.GPGOptions{})
	return lockbox{
		name: "gpg", key: "gpg", env: g.Env(), elsewhere: other.Env(), code: 78,
		lock: func(t *testing.T) {
			if err := g.Forget(within(t)); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func keyringBox(t *testing.T) lockbox {
	k, other := lab.RunKeyring(t, passphrase), lab.RunKeyring(t, "another")
	bus := func(k *lab.Keyring) []string { return []string{"DBUS_SESSION_BUS_ADDRESS=" + k.Address} }
	return lockbox{
		name: "keyring", key: "keyring", env: bus(k), elsewhere: bus(other), code: 78,
		lock: func(t *testing.T) {
			if err := k.Lock(within(t)); err != nil {
				t.Fatal(err)
			}
		},
		unlock: func(t *testing.T) {
			if err := k.Unlock(within(t), passphrase); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// pipeBox is openssl with a passphrase in a file, which is locked by taking it away.
func pipeBox(t *testing.T) lockbox {
	file := filepath.Join(t.TempDir(), "passphrase")
	put := func(t *testing.T) {
		if err := os.WriteFile(file, []byte(passphrase+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(t)
	openssl := func(more string) string {
		return `["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", "file:` + file + `"` + more + `]`
	}
	return lockbox{
		name: "pipe", key: "vault", code: 75,
		config: "[key.vault]\nsource = \"pipe\"\nencrypt = " + openssl("") + "\ndecrypt = " + openssl(`, "-d"`) + "\n",
		lock: func(t *testing.T) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		},
		unlock: put,
	}
}

// fileBox keeps its key outside of the state folder; nothing locks it but its absence.
func fileBox(t *testing.T) lockbox {
	folder := filepath.Join(t.TempDir(), "keys")
	return lockbox{
		name: "file", key: "stick", code: 78,
		config: "[key.stick]\nsource = \"file\"\npath = \"" + folder + "\"\n",
		lock: func(t *testing.T) {
			if err := os.Rename(folder, folder+".away"); err != nil {
				t.Fatal(err)
			}
		},
		unlock: func(t *testing.T) {
			if err := os.Rename(folder+".away", folder); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// boxed is a home with one account whose key is in a box.
func boxed(t *testing.T, b lockbox) (*home, *issuer) {
	t.Helper()
	i := newIssuer(t, &cage{})
	i.configure(func(i *issuer) { i.lifetime = 0 }) // each token is good once
	h := newHome(t, b.env...)
	if b.config != "" {
		h.write(configFile, b.config)
	}
	cmd := h.command(within(t), "letterlock", i.accountArgs("--flow", "paste", "--key", b.key)...)
	noTerminal(cmd)
	if r := h.pasteInto(cmd, i); r.code != 0 {
		t.Fatalf("sign in: %v", r)
	}
	return h, i
}

// wantToken wants one line with a token that the issuer has made.
func wantToken(t *testing.T, i *issuer, what string, r result) {
	t.Helper()
	if r.code != 0 || !i.good(strings.TrimSuffix(r.stdout, "\n")) {
		t.Errorf("%s: %v", what, r)
	}
}

// wantNothing wants a refusal: nothing on standard output, both lines, in time.
func wantNothing(t *testing.T, what string, r result, code int, took time.Duration) {
	t.Helper()
	if r.code != code || r.stdout != "" || !strings.HasPrefix(r.stderr, "letterlock: ") || !strings.Contains(r.stderr, "\nletterlock: hint: ") {
		t.Errorf("%s: want code %d and both lines: %v", what, code, r)
	}
	// Whoever waits for a person waits a minute.
	if took > 45*time.Second {
		t.Errorf("%s took %v", what, took)
	}
	if strings.Contains(r.stderr, passphrase) {
		t.Errorf("%s tells the passphrase: %s", what, r.stderr)
	}
}

func TestKeySources(t *testing.T) {
	for _, make := range []func(*testing.T) lockbox{gpgBox, keyringBox, pipeBox, fileBox} {
		b := make(t)
		t.Run(b.name, func(t *testing.T) {
			h, i := boxed(t, b)
			// A gpg-agent that has just encrypted still asks for the passphrase.
			if b.unlock == nil {
				unlockAtTerminal(t, h, i)
			}
			cron := append([]string{"HOME=" + h.dir}, b.env...)
			for what, env := range map[string][]string{"everything set": h.env, "HOME and PATH": append(cron, "PATH=/usr/bin:/bin"), "HOME": cron} {
				refreshed := i.asked("token refresh_token")
				r, _ := h.alone(env, "token", "you@example.org")
				wantToken(t, i, what, r)
				// The first was kept from the sign-in, and good once.
				if i.asked("token refresh_token") != refreshed+1 && i.asked("token refresh_token") != 0 {
					t.Errorf("%s: no refresh", what)
				}
			}
			withoutHome(t, h, i, b)
			before := state(t, h.dir)
			b.lock(t)
			for what, env := range map[string][]string{"locked": h.env, "locked, HOME": cron} {
				r, took := h.alone(env, "token", "you@example.org")
				code := 75
				if b.name == "file" {
					code = 78 // it cannot be locked, only gone
				}
				wantNothing(t, what, r, code, took)
			}
			if r, took := h.alone(h.env, "accounts"); r.code != 0 || !strings.Contains(r.stdout, "key ") || took > 45*time.Second {
				t.Errorf("accounts with a locked key: %v, %v", r, took)
			}
			if after := state(t, h.dir); after != before {
				t.Errorf("something has changed:\n%s", differences(before, after))
			}
			if b.unlock == nil {
				unlockAtTerminal(t, h, i)
			} else {
				b.unlock(t)
			}
			r, _ := h.alone(h.env, "token", "you@example.org")
			wantToken(t, i, "unlocked", r)
			sealed(t, h, i)
			copied(t, h, b)
		})
	}
}

// withoutHome is "env -i": the home folder comes out of the user database, here one in
// a mount namespace of its own that says where this test's home is.
func withoutHome(t *testing.T, h *home, i *issuer, b lockbox) {
	t.Helper()
	passwd := filepath.Join(t.TempDir(), "passwd")
	line := fmt.Sprintf("me:x:%d:%d::%s:/bin/sh\n", os.Getuid(), os.Getgid(), h.dir)
	if err := os.WriteFile(passwd, []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	if len(b.env) > 0 && b.name == "keyring" {
		// Without an address there is no bus: as locked as can be, and no hang.
		r, took := inNamespace(t, h, passwd, nil)
		wantNothing(t, "env -i", r, 75, took)
	}
	r, _ := inNamespace(t, h, passwd, b.env)
	wantToken(t, i, "env -i", r)
}

func inNamespace(t *testing.T, h *home, passwd string, env []string) (result, time.Duration) {
	t.Helper()
	inner := append([]string{"/usr/bin/env", "-i"}, env...)
	inner = append(inner, binary(t), "token", "you@example.org")
	args := []string{"--mount", "--propagation", "private", "/bin/sh", "-c", `/bin/mount --bind "$0" /etc/passwd && exec "$@"`, passwd}
	if os.Geteuid() != 0 {
		args = append([]string{"--map-current-user", "--keep-caps"}, args...)
	}
	cmd := h.command(within(t), "unshare", append(args, inner...)...)
	noTerminal(cmd)
	began := time.Now()
	r := h.finish(cmd, "")
	return r, time.Since(began)
}

// unlockAtTerminal is a person who is asked by the pinentry and answers.
func unlockAtTerminal(t *testing.T, h *home, i *issuer) {
	t.Helper()
	ctx := within(t)
	file := h.path("token")
	// Standard output is not the terminal: a token does not go there.
	cmd := h.plain("sh", "-c", binary(t)+" token you@example.org >"+file)
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Stop()
	if err := errors.Join(terminal.Expect(ctx, "assphrase"), terminal.Type(passphrase+"\r"), terminal.Wait(ctx)); err != nil {
		t.Fatalf("%v: %q", err, terminal.Output())
	}
	if strings.Contains(terminal.Output(), passphrase) {
		t.Errorf("the passphrase is on the screen: %q", terminal.Output())
	}
	data, err := os.ReadFile(file)
	if err := errors.Join(err, os.Remove(file)); err != nil {
		t.Fatal(err)
	}
	wantToken(t, i, "at the terminal", result{stdout: string(data)})
}

// sealed looks for what the issuer gave in all that is on disk.
func sealed(t *testing.T, h *home, i *issuer) {
	t.Helper()
	i.cage.add("passphrase", passphrase)
	i.cage.add("age identity", "AGE-SECRET-KEY-1")
	if files := i.cage.search(t, h.dir, nil); files < 3 {
		t.Errorf("only %d files were searched", files)
	}
}

// copied takes everything that is on this computer's disk, but for the key, to another
// one.
func copied(t *testing.T, h *home, b lockbox) {
	t.Helper()
	thief := newHome(t, b.elsewhere...)
	if err := os.CopyFS(thief.dir, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	tighten(t, thief.dir)
	if b.elsewhere == nil {
		b.lock(t) // its key is outside of the home
		defer b.unlock(t)
	}
	before := state(t, thief.dir)
	for _, args := range [][]string{{"token", "you@example.org"}, {"token", "you@example.org", "--json"}, {"test", "you@example.org", "--imap", "localhost:1"}, {"logout", "you@example.org"}} {
		r, took := thief.alone(thief.env, args...)
		wantNothing(t, fmt.Sprintf("%v of a copied state", args), r, b.code, took)
	}
	if after := state(t, thief.dir); after != before {
		t.Errorf("something has changed:\n%s", differences(before, after))
	}
}

// TestGPGDialogues: each real pinentry on a terminal, a right answer, a wrong one, and
// a person who gives up.
func TestGPGDialogues(t *testing.T) {
	for _, pinentry := range []string{"/usr/bin/pinentry-tty", "/usr/bin/pinentry-curses"} {
		t.Run(filepath.Base(pinentry), func(t *testing.T) {
			g := lab.RunGPG(t, lab.GPGOptions{Passphrase: passphrase, Pinentry: pinentry})
			b := lockbox{key: "gpg", env: g.Env()}
			h, i := boxed(t, b)
			unlockAtTerminal(t, h, i)
			if err := g.Forget(within(t)); err != nil {
				t.Fatal(err)
			}
			before := state(t, h.dir)
			ctx := within(t)
			terminal, err := pty.Start(h.plain("sh", "-c", "trap : INT; "+binary(t)+" token you@example.org >token; echo code $?; cat token; rm token"))
			if err != nil {
				t.Fatal(err)
			}
			defer terminal.Stop()
			if err := errors.Join(terminal.Expect(ctx, "assphrase"), terminal.Type("\x03"), terminal.Expect(ctx, "code 75"), terminal.Wait(ctx)); err != nil {
				t.Fatalf("%v: %q", err, terminal.Output())
			}
			if text := terminal.Output(); strings.Contains(text, "at.") || !strings.Contains(text, "letterlock: hint: ") {
				t.Errorf("after giving up: %q", text)
			}
			if after := state(t, h.dir); after != before {
				t.Errorf("something has changed:\n%s", differences(before, after))
			}
		})
	}
}

// TestScriptedPinentry: a display instead of a terminal, and a refusal.
func TestScriptedPinentry(t *testing.T) {
	for _, row := range []struct {
		pinentry string
		code     int
	}{{"", 0}, {"cancel", 75}} {
		g := lab.RunGPG(t, lab.GPGOptions{Passphrase: passphrase, Pinentry: row.pinentry})
		h, i := boxed(t, lockbox{key: "gpg", env: g.Env()})
		if err := g.Forget(within(t)); err != nil {
			t.Fatal(err)
		}
		if r, took := h.alone(h.env, "token", "you@example.org"); g.Asked() != 0 {
			t.Errorf("the pinentry was started with nobody there: %v", r)
		} else {
			wantNothing(t, "nobody there", r, 75, took)
		}
		r, took := h.alone(append(h.env, "DISPLAY=:99"), "token", "you@example.org")
		if g.Asked() == 0 {
			t.Errorf("the pinentry was not asked: %v", r)
		}
		if row.code == 0 {
			wantToken(t, i, "display", r)
		} else {
			wantNothing(t, "cancelled", r, row.code, took)
		}
	}
}

// TestLockedWithoutEnd: a decrypt command that never answers costs less than a
// person's minute, and what it started is gone.
func TestLockedWithoutEnd(t *testing.T) {
	i := newIssuer(t, &cage{})
	h := newHome(t)
	pipe := func(mode string) string {
		argv := helper(t, mode, h.path("helpers"))
		return fmt.Sprintf("[%q, %q, %q]", argv[0], argv[1], argv[2])
	}
	section := func(decrypt string) string {
		return "[key.vault]\nsource = \"pipe\"\nencrypt = " + pipe("encrypt") + "\ndecrypt = " + pipe(decrypt) + "\n"
	}
	h.write(configFile, section("decrypt"))
	h.mustPaste(i, i.accountArgs("--flow", "paste", "--key", "vault")...)
	data, err := os.ReadFile(h.path(configFile))
	if err != nil {
		t.Fatal(err)
	}
	h.write(configFile, strings.Replace(string(data), "helper:decrypt", "helper:hang", 1))
	s := newSampler(t)
	r, took := h.alone(append(h.env, s.mark), "token", "you@example.org")
	wantNothing(t, "a command that hangs", r, 75, took)
	for _, pid := range living(s.mark) {
		t.Errorf("process %s is left", pid)
	}
}

// living are the processes with that mark.
func living(mark string) []string {
	var found []string
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		if environ, _ := os.ReadFile(folder + "/environ"); strings.Contains(string(environ), mark) {
			found = append(found, filepath.Base(folder))
		}
	}
	return found
}

// TestKeyringSessions is the life of a desktop: dbus-run-session starts the bus and
// everything on it, the log-in unlocks the keyring, and a next session has it locked.
func TestKeyringSessions(t *testing.T) {
	i := newIssuer(t, &cage{})
	h := newHome(t)
	if err := os.Mkdir(h.path("run"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "XDG_RUNTIME_DIR="+h.path("run"))
	h.write("login-password", passphrase)
	// The daemon stays in the session's foreground and ends with it: the next session
	// must not meet it. Nothing but its name on the bus says that it is ready.
	const script = `gnome-keyring-daemon --foreground $0 --components=secrets <login-password >/dev/null 2>&1 & daemon=$!
until dbus-send --session --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus.NameHasOwner string:org.freedesktop.secrets | grep -q true
do kill -0 $daemon || exit 99; done
"$@"
code=$?
kill $daemon; wait $daemon
exit $code`
	session := func(mode string, args ...string) *exec.Cmd {
		cmd := h.command(within(t), "dbus-run-session", append([]string{"--", "sh", "-c", script, mode, binary(t)}, args...)...)
		noTerminal(cmd)
		return cmd
	}
	const unlocked, locked = "--unlock", "--foreground" // the second says nothing new
	token := []string{"token", "you@example.org"}
	if r := h.pasteInto(session(unlocked, i.accountArgs("--flow", "paste", "--key", "keyring")...), i); r.code != 0 {
		t.Fatalf("sign in: %v", r)
	}
	wantToken(t, i, "unlocked at log-in", h.finish(session(unlocked, token...), ""))
	began := time.Now()
	wantNothing(t, "a session that nobody unlocked", ours(h.finish(session(locked, token...), "")), 75, time.Since(began))
	wantToken(t, i, "unlocked again", h.finish(session(unlocked, token...), ""))
	r, took := h.alone(h.env, token...)
	wantNothing(t, "no session", r, 75, took)
	if err := os.Remove(h.path("login-password")); err != nil {
		t.Fatal(err)
	}
	sealed(t, h, i)
}

// ours leaves out what dbus-daemon says on the same standard error.
func ours(r result) result {
	if at := strings.Index(r.stderr, "letterlock: "); at > 0 {
		r.stderr = r.stderr[at:]
	}
	return r
}
