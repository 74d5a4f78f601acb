package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// KDCOptions describe a Kerberos realm.
type KDCOptions struct {
	Realm string // default: TRY.TEST
	// Users are principals without their realm, and their passwords.
	Users map[string]string
	// Services are principals of servers, "imap/mail.try.test"; their keys are in Keytab.
	Services []string
}

// KDC is a running key distribution centre of MIT Kerberos on a loopback port.
type KDC struct {
	Realm  string
	Config string // what KRB5_CONFIG names: this realm and no other, no DNS
	Keytab string // readable by everybody who may enter Dir: servers run as several users

	Dir     string
	process *Process
}

// StartKDC makes a realm and starts its KDC; about a second.
func StartKDC(ctx context.Context, o KDCOptions) (*KDC, error) {
	if o.Realm == "" {
		o.Realm = "TRY.TEST"
	}
	k, err := startRetry(func() (*KDC, error) { return startKDC(ctx, o) })
	if err != nil {
		return nil, fmt.Errorf("start kdc: %w", err)
	}
	return k, nil
}

func startKDC(ctx context.Context, o KDCOptions) (*KDC, error) {
	path, err := find("krb5kdc", "krb5-kdc")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	k := &KDC{Realm: o.Realm}
	if k.Dir, err = newFolder("kdc"); err != nil {
		return nil, err
	}
	k.Config, k.Keytab = filepath.Join(k.Dir, "krb5.conf"), filepath.Join(k.Dir, "krb5.keytab")
	if err := k.fill(ctx, o, ports[0]); err != nil {
		os.RemoveAll(k.Dir)
		return nil, err
	}
	k.process, err = StartProcess(ProcessOptions{Name: "krb5kdc", Path: path, Args: []string{"-n"}, Env: k.Env(), Dir: k.Dir})
	if err != nil {
		os.RemoveAll(k.Dir)
		return nil, err
	}
	line, err := k.process.WaitLog(ctx, func(s string) bool { return strings.Contains(s, "commencing operation") || bindConflict(s) })
	if err == nil && !bindConflict(line) {
		return k, nil
	}
	if bindConflict(line) || err != nil && bindConflict(err.Error()) {
		err = errPortTaken
	}
	k.Stop()
	return nil, err
}

// Env is the environment of programs that belong to the realm.
func (k *KDC) Env() []string {
	return append(os.Environ(), "KRB5_CONFIG="+k.Config, "KRB5_KDC_PROFILE="+filepath.Join(k.Dir, "kdc.conf"), "KRB5CCNAME=FILE:"+filepath.Join(k.Dir, "cache"), "LC_ALL=C")
}

// fill writes the configuration and the database.
func (k *KDC) fill(ctx context.Context, o KDCOptions, port int) error {
	err := errors.Join(
		os.WriteFile(k.Config, fmt.Appendf(nil, `[libdefaults]
  default_realm = %[1]s
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
[realms]
  %[1]s = {
    kdc = 127.0.0.1:%[2]d
  }
[domain_realm]
  .try.test = %[1]s
  try.test = %[1]s
[logging]
  kdc = STDERR
`, o.Realm, port), 0o644),
		os.WriteFile(filepath.Join(k.Dir, "kdc.conf"), fmt.Appendf(nil, `[realms]
  %[1]s = {
    database_name = %[2]s/principal
    key_stash_file = %[2]s/stash
    acl_file = %[2]s/acl
    kdc_listen = 127.0.0.1:%[3]d
    kdc_tcp_listen = 127.0.0.1:%[3]d
    supported_enctypes = aes256-cts:normal
  }
`, o.Realm, k.Dir, port), 0o644))
	if err != nil {
		return err
	}
	if err := k.run(ctx, "lab-master\nlab-master\n", "kdb5_util", "krb5-kdc", "create", "-s", "-r", o.Realm); err != nil {
		return err
	}
	var orders strings.Builder
	for name, password := range o.Users {
		fmt.Fprintf(&orders, "addprinc -pw %s %s\n", password, name)
	}
	for _, name := range o.Services {
		fmt.Fprintf(&orders, "addprinc -randkey %s\nktadd -k %s %s\n", name, k.Keytab, name)
	}
	if err := k.run(ctx, orders.String(), "kadmin.local", "krb5-admin-server", "-r", o.Realm); err != nil {
		return err
	}
	if len(o.Services) == 0 {
		return nil
	}
	return os.Chmod(k.Keytab, 0o644)
}

func (k *KDC) run(ctx context.Context, stdin, program, pkg string, args ...string) error {
	path, err := find(program, pkg)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = k.Env(), k.Dir, strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// Ticket signs a user in: programs with Env have the ticket then.
func (k *KDC) Ticket(ctx context.Context, user, password string) error {
	return k.run(ctx, password+"\n", "kinit", "krb5-user", user)
}

// Stop ends the KDC and removes its folder.
func (k *KDC) Stop() {
	if k.process != nil {
		k.process.Stop()
	}
	os.RemoveAll(k.Dir)
}

// Log returns what the KDC logged.
func (k *KDC) Log() []string { return k.process.Log() }

// RunKDC is StartKDC for a test.
func RunKDC(t TB, o KDCOptions) *KDC {
	t.Helper()
	return run(t, "kdc", func(ctx context.Context) (*KDC, error) { return StartKDC(ctx, o) })
}
