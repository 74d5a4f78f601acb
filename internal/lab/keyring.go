package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Keyring is a session bus with a real gnome-keyring on it and nothing else.
type Keyring struct {
	Address string // DBUS_SESSION_BUS_ADDRESS
	Home    string

	bus    *Process
	daemon *Process
}

// StartKeyring starts the bus and the keyring, whose login collection is made
// with this password and unlocked; about 0.2 s.
func StartKeyring(ctx context.Context, password string) (*Keyring, error) {
	bus, err := find("dbus-daemon", "dbus")
	if err != nil {
		return nil, err
	}
	daemon, err := find("gnome-keyring-daemon", "gnome-keyring")
	if err != nil {
		return nil, err
	}
	k := &Keyring{}
	if k.Home, err = newFolder("keyring"); err != nil {
		return nil, err
	}
	if err := k.start(ctx, bus, daemon, password); err != nil {
		k.Stop()
		return nil, fmt.Errorf("start keyring: %w", err)
	}
	return k, nil
}

func (k *Keyring) start(ctx context.Context, bus, daemon, password string) error {
	if err := os.Chmod(k.Home, 0o700); err != nil {
		return err
	}
	// A configuration of our own: the system's would start services by name,
	// a second keyring among them.
	conf := filepath.Join(k.Home, "bus.conf")
	if err := os.WriteFile(conf, []byte(busConf(k.Home)), 0o600); err != nil {
		return err
	}
	var err error
	k.bus, err = StartProcess(ProcessOptions{Name: "dbus-daemon", Path: bus, Args: []string{"--config-file=" + conf, "--nofork", "--print-address=1"}})
	if err != nil {
		return err
	}
	if k.Address, err = k.bus.WaitLog(ctx, func(s string) bool { return strings.HasPrefix(s, "unix:") }); err != nil {
		return err
	}
	k.daemon, err = StartProcess(ProcessOptions{
		Name: "gnome-keyring-daemon", Path: daemon, Args: []string{"--foreground", "--unlock", "--components=secrets"},
		Env: append(os.Environ(), k.Env()...), Stdin: true,
	})
	if err != nil {
		return err
	}
	// It reads to the end of the input and takes that as the password.
	if err := k.daemon.SendAll(password); err != nil {
		return err
	}
	return k.ready(ctx)
}

func busConf(home string) string {
	return `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=` + home + `/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`
}

// ready waits until the service answers. Nothing announces that, so the last
// resort is used: ask until it does or the caller's patience ends.
func (k *Keyring) ready(ctx context.Context) error {
	for {
		out, err := k.tool(ctx, "", "search", "lab", "ready").CombinedOutput()
		// Exit 1 without a word means: asked, nothing found.
		if err == nil || len(out) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %s", ctx.Err(), out)
		}
		select {
		case <-k.daemon.Done():
			return errors.New("gnome-keyring-daemon ended: " + k.daemon.tail(5))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Env is what a program needs to find this keyring and no other.
func (k *Keyring) Env() []string {
	return []string{
		"DBUS_SESSION_BUS_ADDRESS=" + k.Address, "HOME=" + k.Home, "XDG_RUNTIME_DIR=" + k.Home,
		"XDG_DATA_HOME=" + filepath.Join(k.Home, "data"), "XDG_CONFIG_HOME=" + filepath.Join(k.Home, "config"),
	}
}

// Lock locks the login collection: a program must ask, and nobody will answer.
func (k *Keyring) Lock(ctx context.Context) error {
	// secret-tool 0.20 locks it and dies of a segmentation fault.
	cmd := exec.CommandContext(ctx, "dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.secrets", "/org/freedesktop/secrets",
		"org.freedesktop.Secret.Service.Lock", "array:objpath:/org/freedesktop/secrets/collection/login")
	cmd.Env = append(os.Environ(), k.Env()...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "collection/login") {
		return fmt.Errorf("lock keyring: %w: %s", err, out)
	}
	return nil
}

// Unlock opens the login collection without asking anybody, by the interface that is
// gnome-keyring's own: what PAM does at a log-in.
func (k *Keyring) Unlock(ctx context.Context, password string) error {
	conn, err := dbus.Connect(k.Address, dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("unlock keyring: %w", err)
	}
	defer conn.Close()
	service := conn.Object("org.freedesktop.secrets", "/org/freedesktop/secrets")
	var nothing dbus.Variant
	var session dbus.ObjectPath
	err = service.CallWithContext(ctx, "org.freedesktop.Secret.Service.OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&nothing, &session)
	if err != nil {
		return fmt.Errorf("unlock keyring: %w", err)
	}
	secret := struct {
		Session           dbus.ObjectPath
		Parameters, Value []byte
		ContentType       string
	}{session, []byte{}, []byte(password), "text/plain"}
	err = service.CallWithContext(ctx, "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.UnlockWithMasterPassword", 0,
		dbus.ObjectPath("/org/freedesktop/secrets/collection/login"), secret).Err
	if err != nil {
		return fmt.Errorf("unlock keyring: %w", err)
	}
	return nil
}

// Store puts a secret in, and Lookup reads one, by the independent secret-tool.
func (k *Keyring) Store(ctx context.Context, label, secret string, attributes ...string) error {
	out, err := k.tool(ctx, secret, append([]string{"store", "--label=" + label}, attributes...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("store in keyring: %w: %s", err, out)
	}
	return nil
}

// Lookup reads a secret by its attributes.
func (k *Keyring) Lookup(ctx context.Context, attributes ...string) (string, error) {
	out, err := k.tool(ctx, "", append([]string{"lookup"}, attributes...)...).Output()
	return string(out), err
}

func (k *Keyring) tool(ctx context.Context, input string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "secret-tool", args...)
	cmd.Env = append(os.Environ(), k.Env()...)
	cmd.Stdin = strings.NewReader(input)
	return cmd
}

// Log returns what the keyring daemon said.
func (k *Keyring) Log() []string {
	if k.daemon == nil {
		return nil
	}
	return k.daemon.Log()
}

// Stop ends both and removes their folder.
func (k *Keyring) Stop() {
	for _, p := range []*Process{k.daemon, k.bus} {
		if p != nil {
			p.Stop()
		}
	}
	os.RemoveAll(k.Home)
}
