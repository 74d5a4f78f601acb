//go:build lab && linux

package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const passphrase = "correct horse"

// A gpgLab is a GnuPG home of its own, under a short path that its sockets fit in.
type gpgLab struct {
	t    testing.TB
	home string
}

// newGPG makes a home with one key. The pinentry is a shell script.
func newGPG(t testing.TB, protected bool, pinentry string) *gpgLab {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	lab := &gpgLab{t, home}
	t.Cleanup(func() {
		lab.kill()
		_ = os.RemoveAll(home)
	})
	lab.pinentry(pinentry)
	lab.generate("you@example.org", protected)
	lab.kill() // the agent remembers the passphrase it made the key with
	return lab
}

func (l *gpgLab) generate(address string, protected bool) {
	l.t.Helper()
	protection := "%no-protection"
	if protected {
		protection = "Passphrase: " + passphrase
	}
	l.gpg("Key-Type: eddsa\nKey-Curve: ed25519\nKey-Usage: sign\nSubkey-Type: ecdh\nSubkey-Curve: cv25519\n"+
		"Name-Email: "+address+"\nExpire-Date: 0\n"+protection+"\n%commit\n", "--batch", "--gen-key")
}

func (l *gpgLab) gpg(stdin string, args ...string) string {
	l.t.Helper()
	cmd := exec.CommandContext(l.t.Context(), "gpg", args...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+l.home)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("gpg %q: %v", args, err)
	}
	return string(out)
}

// pinentry sets the program that gpg-agent asks with. Its body may use $LAB.
func (l *gpgLab) pinentry(body string) {
	l.t.Helper()
	script := filepath.Join(l.home, "pinentry.sh")
	text := "#!/bin/sh\nLAB=" + l.home + "\ntouch $LAB/asked\n" + body
	conf := "pinentry-program " + script + "\nno-allow-loopback-pinentry\n"
	if strings.HasPrefix(body, "/") {
		conf = "pinentry-program " + body + "\nno-allow-loopback-pinentry\n"
	}
	if err := errors.Join(os.WriteFile(script, []byte(text), 0o700),
		os.WriteFile(filepath.Join(l.home, "gpg-agent.conf"), []byte(conf), 0o600)); err != nil {
		l.t.Fatal(err)
	}
}

// asked reports whether the pinentry was started since the last call.
func (l *gpgLab) asked() bool { return os.Remove(filepath.Join(l.home, "asked")) == nil }

// kill ends this home's agent, and with it all that it remembers.
func (l *gpgLab) kill() {
	cmd := exec.Command("gpgconf", "--kill", "all")
	cmd.Env = append(os.Environ(), "GNUPGHOME="+l.home)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Errorf("gpgconf --kill: %v %s", err, out)
	}
}

// Surroundings as cron's: nothing but where gpg's home is. HOME and PATH are missing.
func (l *gpgLab) alone() Surroundings {
	return Surroundings{Environ: []string{"GNUPGHOME=" + l.home}}
}

func (l *gpgLab) withPerson() Surroundings {
	where := l.alone()
	where.Display = true
	return where
}

// answering is a pinentry that talks the Assuan protocol and gives this answer.
func answering(answer string) string {
	return `echo OK
while read -r line; do
  case "$line" in
    GETPIN) ` + answer + ` ;;
    BYE) echo OK; exit 0 ;;
    *) echo OK ;;
  esac
done
`
}

func typing(text string) string { return answering(`echo "D ` + text + `"; echo OK`) }

// newState makes a store whose only grant is sealed for keys.
func newState(t testing.TB, state string, keys Keys) *Store {
	t.Helper()
	store, err := Open(filepath.Join(state, "grants"))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, store, "you@example.org", keys, labCanary)
	return store
}

const labCanary = "c4n4ry-refresh-token"

// wantRefusal fails unless reading ends with want, in time and without a word of the
// grant, and returns the error.
func wantRefusal(t testing.TB, store *Store, keys Keys, want error) error {
	t.Helper()
	began := time.Now()
	plain, err := store.Read(t.Context(), "you@example.org", keys)
	if !errors.Is(err, want) || plain != nil {
		t.Errorf("Read = %q, %v, want %v", plain, err, want)
	}
	// Whoever waits for a person waits a minute.
	if took := time.Since(began); took > personLimit*3/4 {
		t.Errorf("Read took %v", took)
	}
	if err != nil && strings.Contains(err.Error(), passphrase) {
		t.Errorf("the error tells the passphrase: %v", err)
	}
	return err
}

func TestGPGWithoutPassphrase(t *testing.T) {
	lab := newGPG(t, false, answering("exit 1"))
	state := t.TempDir()
	keys := NewGPG(filepath.Join(state, "keys"), "", lab.alone())
	store := newState(t, state, keys)
	for range 2 {
		wantGrant(t, store, "you@example.org", keys, labCanary)
		lab.kill() // the next one starts the agent again
	}
	wantSealed(t, state, labCanary, secretPrefix)
	if lab.asked() {
		t.Error("somebody was asked")
	}
	found := Detect(t.Context(), lab.alone())[1]
	if !found.Usable || len(found.Key) != 40 {
		t.Errorf("Detect = %+v, want usable with a fingerprint", found)
	}
	// The same key by its fingerprint, in another store.
	other := NewGPG(filepath.Join(t.TempDir(), "keys"), found.Key, lab.alone())
	if err := other.Create(t.Context()); err != nil {
		t.Error(err)
	}
	wantPair(t, other)
}

func TestGPGWithPassphrase(t *testing.T) {
	lab := newGPG(t, true, typing(passphrase))
	state := t.TempDir()
	folder := filepath.Join(state, "keys")
	alone, person := NewGPG(folder, "you@example.org", lab.alone()), NewGPG(folder, "you@example.org", lab.withPerson())
	store := newState(t, state, alone) // encrypting asks nobody
	wantRefusal(t, store, alone, ErrLocked)
	if lab.asked() {
		t.Error("a pinentry was started with nobody there")
	}
	wantGrant(t, store, "you@example.org", person, labCanary)
	if !lab.asked() {
		t.Error("the passphrase did not come from the pinentry")
	}
	wantGrant(t, store, "you@example.org", alone, labCanary) // remembered by the agent
	lab.kill()
	wantRefusal(t, store, alone, ErrLocked)
	lab.pinentry(answering(`echo "ERR 83886179 Operation cancelled <Pinentry>"`))
	wantRefusal(t, store, person, ErrLocked)
	lab.pinentry(typing("wrong"))
	wantRefusal(t, store, person, ErrLocked)
	wantSealed(t, state, labCanary, secretPrefix, passphrase)
}

func TestGPGPinentryThatNobodyAnswers(t *testing.T) {
	lab := newGPG(t, true, answering(`echo $$ > $LAB/pid; exec sleep 1000`))
	state := t.TempDir()
	keys := NewGPG(filepath.Join(state, "keys"), "", lab.withPerson())
	store := newState(t, state, keys)
	// Sixty seconds in life; here the time is up when the pinentry is there.
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(lab.home, "asked")); err == nil {
				cancel(errSilent)
			}
			<-time.After(20 * time.Millisecond)
		}
	}()
	if _, err := store.Read(ctx, "you@example.org", keys); !errors.Is(err, ErrLocked) {
		t.Errorf("Read = %v, want ErrLocked", err)
	}
	if !lab.asked() {
		t.Error("the pinentry was not started")
	}
}

func TestGPGFaults(t *testing.T) {
	lab := newGPG(t, false, answering("exit 1"))
	state := t.TempDir()
	folder := filepath.Join(state, "keys")
	keys := NewGPG(folder, "", lab.alone())
	store := newState(t, state, keys)

	empty := newGPG(t, false, answering("exit 1")) // another person's keys
	wantRefusal(t, store, NewGPG(folder, "", empty.alone()), ErrNoKey)
	wantRefusal(t, store, NewGPG(filepath.Join(t.TempDir(), "keys"), "", lab.alone()), ErrNoKey)

	sealed, err := os.ReadFile(filepath.Join(folder, gpgPrivate))
	if err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{"empty": nil, "garbage": []byte("x"), "cut off": sealed[:len(sealed)-20]} {
		if err := keys.folder.write(gpgPrivate, data); err != nil {
			t.Fatal(err)
		}
		if err := wantRefusal(t, store, keys, ErrNoKey); errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, key := range []string{"nobody@example.org", "--help", "; id"} {
		fresh := NewGPG(filepath.Join(t.TempDir(), "keys"), key, lab.alone())
		if err := fresh.Create(t.Context()); !errors.Is(err, ErrNoKey) {
			t.Errorf("Create with key %q: %v, want ErrNoKey", key, err)
		}
	}
}

func TestGPGKeyThatCannotDecrypt(t *testing.T) {
	lab := newGPG(t, false, answering("exit 1"))
	lab.gpg("Key-Type: eddsa\nKey-Curve: ed25519\nKey-Usage: sign\nName-Email: sign@example.org\nExpire-Date: 0\n%no-protection\n%commit\n",
		"--batch", "--gen-key")
	keys := NewGPG(filepath.Join(t.TempDir(), "keys"), "sign@example.org", lab.alone())
	if err := keys.Create(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("Create = %v, want ErrNoKey", err)
	}
	// A public key of somebody else: encrypting would work, reading never.
	other := newGPG(t, false, answering("exit 1"))
	public := other.gpg("", "--batch", "--armor", "--export")
	lab.gpg(public, "--batch", "--import")
	fingerprint := Detect(t.Context(), other.alone())[1].Key
	if err := NewGPG(filepath.Join(t.TempDir(), "keys"), fingerprint, lab.alone()).Create(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("Create for somebody else's key = %v, want ErrNoKey", err)
	}
}

func TestGPGInATerminal(t *testing.T) {
	for _, pinentry := range []string{"/usr/bin/pinentry-tty", "/usr/bin/pinentry-curses"} {
		t.Run(filepath.Base(pinentry), func(t *testing.T) {
			lab := newGPG(t, true, pinentry)
			state := t.TempDir()
			newState(t, state, NewGPG(filepath.Join(state, "keys"), "", lab.alone()))
			terminal := newTerminal(t)
			// As cron or a mail program has it: no TERM, no GPG_TTY, and standard input
			// and output not on the terminal.
			screen, out := terminal.run(helper(t, "read", state, "gpg"), []string{"GNUPGHOME=" + lab.home}, "assphrase", passphrase+"\r")
			want := fmt.Sprintf("terminal=%q display=false grant=%s\n", terminal.name, labCanary)
			if out != want {
				t.Errorf("got %q, want %q\nscreen: %q", out, want, screen)
			}
			if strings.Contains(screen, passphrase) || strings.Contains(screen, labCanary) {
				t.Errorf("the screen shows a secret: %q", screen)
			}
		})
	}
}
