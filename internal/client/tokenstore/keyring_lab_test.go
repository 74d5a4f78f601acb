//go:build lab && linux

package tokenstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A bus is a session bus of its own, by dbus-run-session.
type bus struct {
	t       testing.TB
	home    string
	address string
}

func newBus(t testing.TB) *bus {
	t.Helper()
	b := &bus{t: t, home: t.TempDir()}
	// The session lasts until cat sees the end of its input.
	cmd := exec.Command("dbus-run-session", "--", "sh", "-c", `echo "$DBUS_SESSION_BUS_ADDRESS"; exec cat`)
	cmd.Env = b.environ()
	end, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = end.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	b.address = strings.TrimSpace(line)
	return b
}

func (b *bus) environ() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.home, "XDG_DATA_HOME=" + b.home + "/data",
		"XDG_RUNTIME_DIR=" + b.home, "DBUS_SESSION_BUS_ADDRESS=" + b.address}
}

// dial is a connection of the test's own.
func (b *bus) dial() *dbus.Conn {
	b.t.Helper()
	conn, err := dbus.Connect(b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// gnomeKeyring starts gnome-keyring-daemon and gives it the login password, as PAM
// does; it makes the login keyring, which is the default one, unlocked.
func (b *bus) gnomeKeyring() {
	b.t.Helper()
	conn := b.dial()
	appeared := make(chan *dbus.Signal, 16)
	conn.Signal(appeared)
	if err := conn.AddMatchSignal(dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"),
		dbus.WithMatchArg(0, secretsName)); err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	cmd.Env = b.environ()
	cmd.Stdin = strings.NewReader(passphrase)
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	for {
		select {
		case signal := <-appeared:
			if len(signal.Body) == 3 && signal.Body[0] == secretsName && signal.Body[2] != "" {
				return
			}
		case <-ctx.Done():
			b.t.Fatal("gnome-keyring-daemon did not appear on the bus")
		}
	}
}

// lock locks the default keyring, as a screen lock or a person does.
func (b *bus) lock() {
	b.t.Helper()
	service := b.dial().Object(secretsName, secretsPath)
	var collection, prompt dbus.ObjectPath
	if err := service.Call(secretsInterface+"Service.ReadAlias", 0, "default").Store(&collection); err != nil {
		b.t.Fatal(err)
	}
	var locked []dbus.ObjectPath
	if err := service.Call(secretsInterface+"Service.Lock", 0, []dbus.ObjectPath{collection}).Store(&locked, &prompt); err != nil || len(locked) != 1 {
		b.t.Fatalf("Lock = %v, %v", locked, err)
	}
}

func (b *bus) alone() Surroundings {
	return Surroundings{Environ: []string{"DBUS_SESSION_BUS_ADDRESS=" + b.address}}
}

func (b *bus) withPerson() Surroundings {
	where := b.alone()
	where.Terminal = "/dev/pts/nobody" // and no display, so nothing is started
	return where
}

// record returns everything that travels on the bus from now on.
func (b *bus) record() func() string {
	b.t.Helper()
	conn := b.dial()
	messages := make(chan *dbus.Message, 10_000)
	if err := conn.BusObject().Call("org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{}, uint32(0)).Err; err != nil {
		b.t.Fatal(err)
	}
	conn.Eavesdrop(messages)
	return func() string {
		defer conn.Close()
		// The bus passes on in order: when this is there, all before it is.
		if err := b.dial().Emit("/test", "test.recording.Ends"); err != nil {
			b.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(b.t.Context(), patience)
		defer cancel()
		var all strings.Builder
		for {
			var message *dbus.Message
			select {
			case message = <-messages:
			case <-ctx.Done():
				b.t.Fatal("the recording has no end")
			}
			if member, ok := message.Headers[dbus.FieldMember].Value().(string); ok && member == "Ends" {
				return all.String()
			}
			fmt.Fprintf(&all, "%v %q %s\n", message.Headers, message.Body, message.Body)
		}
	}
}

func TestKeyringUnlocked(t *testing.T) {
	b := newBus(t)
	b.gnomeKeyring()
	recording := b.record()
	state := t.TempDir()
	keys := NewKeyring(filepath.Join(state, "keys"), b.alone())
	store := newState(t, state, keys)
	before := keyOf(t, keys)
	if err := keys.Create(t.Context()); err != nil || keyOf(t, keys) != before {
		t.Errorf("Create again replaced the key: %v", err)
	}
	wantGrant(t, store, "you@example.org", keys, labCanary)
	wantSealed(t, state, labCanary, secretPrefix)
	wantSealed(t, b.home, labCanary, secretPrefix, passphrase)
	if found := Detect(t.Context(), b.alone())[0]; !found.Usable {
		t.Errorf("Detect = %+v, want usable", found)
	}
	seen := recording()
	if !strings.Contains(seen, "CreateItem") || !strings.Contains(seen, "GetSecret") {
		t.Error("the recording of the bus lacks the calls")
	}
	if strings.Contains(seen, secretPrefix) {
		t.Error("a recording of the bus shows the key")
	}
	// Several stores share a keyring.
	other := NewKeyring(filepath.Join(t.TempDir(), "keys"), b.alone())
	if err := other.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantPair(t, other)
	if keyOf(t, other) == before {
		t.Error("two stores have one key")
	}
	wantGrant(t, store, "you@example.org", keys, labCanary)
}

func keyOf(t testing.TB, keys Keys) string {
	t.Helper()
	recipient, err := keys.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(recipient)
}

func TestKeyringLocked(t *testing.T) {
	b := newBus(t)
	b.gnomeKeyring()
	state := t.TempDir()
	folder := filepath.Join(state, "keys")
	keys := NewKeyring(folder, b.alone())
	store := newState(t, state, keys)
	b.lock()
	wantRefusal(t, store, keys, ErrLocked)
	write(t, store, "other@example.org", keys, "x") // writing needs no key
	if found := Detect(t.Context(), b.alone())[0]; found.Usable || !strings.Contains(found.Reason, "locked") {
		t.Errorf("Detect = %+v, want locked", found)
	}
	if found := Detect(t.Context(), b.withPerson())[0]; !found.Usable {
		t.Errorf("Detect with a person = %+v, want usable", found)
	}
	// Somebody at a terminal, but no display for gnome-keyring's dialogue: it says no
	// or nothing, and we end.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errSilent)
	defer cancel()
	if _, err := NewKeyring(folder, b.withPerson()).Identity(ctx); !errors.Is(err, ErrLocked) {
		t.Errorf("Identity with a person and no display: %v, want ErrLocked", err)
	}
	if err := NewKeyring(filepath.Join(t.TempDir(), "keys"), b.alone()).Create(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("Create: %v, want ErrLocked", err)
	}
}

func TestKeyringInAnEmptyEnvironment(t *testing.T) {
	b := newBus(t)
	b.gnomeKeyring()
	state := t.TempDir()
	newState(t, state, NewKeyring(filepath.Join(state, "keys"), b.alone()))
	// As systemd lays it out: no address, and the bus in the runtime folder.
	runtime := t.TempDir()
	if err := os.Symlink(busSockets(b.alone())[0], filepath.Join(runtime, "bus")); err != nil {
		t.Fatal(err)
	}
	read := func(environ ...string) (string, error) {
		argv := slices.Concat([]string{"-i"}, environ, helper(t, "read", state, "keyring"))
		cmd := exec.CommandContext(t.Context(), "env", argv...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := read("XDG_RUNTIME_DIR=" + runtime); err != nil || !strings.Contains(out, "grant="+labCanary) {
		t.Errorf("with XDG_RUNTIME_DIR: %s %v", out, err)
	}
	began := time.Now()
	out, err := read()
	if err == nil || !strings.Contains(out, "no D-Bus session bus") || time.Since(began) > personLimit*3/4 {
		t.Errorf("with nothing: %s %v after %v", out, err, time.Since(began))
	}
}

func TestKeyringOfSomebodyElse(t *testing.T) {
	mine, theirs := newBus(t), newBus(t)
	mine.gnomeKeyring()
	theirs.gnomeKeyring()
	state := t.TempDir()
	folder := filepath.Join(state, "keys")
	store := newState(t, state, NewKeyring(folder, mine.alone()))
	wantRefusal(t, store, NewKeyring(folder, theirs.alone()), ErrNoKey)
	// Signing in there makes a key there; what was copied stays closed.
	if err := NewKeyring(folder, theirs.alone()).Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, store, NewKeyring(folder, theirs.alone()), ErrNoKey)
}

func TestKeyringWithoutService(t *testing.T) {
	b := newBus(t)
	folder := newKeyringFolder(t)
	err := wantRefusal(t, newSealedStore(t, folder), NewKeyring(folder, b.alone()), ErrLocked)
	if err == nil || !strings.Contains(err.Error(), "no Secret Service") {
		t.Errorf("Read = %v", err)
	}
	var owned bool
	if err := b.dial().BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, secretsName).Store(&owned); err != nil || owned {
		t.Errorf("a keyring was started: %v, %v", owned, err)
	}
}

// newSealedStore makes a store for the keyring key of folder, whose private half nobody has.
func newSealedStore(t testing.TB, folder string) *Store {
	t.Helper()
	store, err := Open(filepath.Join(t.TempDir(), "grants"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, store, "you@example.org", NewKeyring(folder, Surroundings{}), labCanary)
	return store
}
