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

// LDAP is a running slapd on a loopback port. Each user is cn=NAME,dc=try,dc=test and
// signs in by binding as that.
type LDAP struct {
	URL  string
	Base string

	Dir     string
	process *Process
}

// StartLDAP starts slapd with these users and their passwords; about half a second.
func StartLDAP(ctx context.Context, users map[string]string) (*LDAP, error) {
	l, err := startRetry(func() (*LDAP, error) { return startLDAP(ctx, users) })
	if err != nil {
		return nil, fmt.Errorf("start slapd: %w", err)
	}
	return l, nil
}

func startLDAP(ctx context.Context, users map[string]string) (*LDAP, error) {
	path, err := find("slapd", "slapd")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	l := &LDAP{URL: fmt.Sprintf("ldap://127.0.0.1:%d", ports[0]), Base: "dc=try,dc=test"}
	if l.Dir, err = newFolder("slapd"); err != nil {
		return nil, err
	}
	conf := filepath.Join(l.Dir, "slapd.conf")
	if err := l.fill(ctx, conf, users); err != nil {
		os.RemoveAll(l.Dir)
		return nil, err
	}
	// -d keeps it in the foreground; 0 says only what went wrong.
	l.process, err = StartProcess(ProcessOptions{Name: "slapd", Path: path, Args: []string{"-d", "0", "-h", l.URL + "/", "-f", conf}, Dir: l.Dir})
	if err == nil {
		err = waitPort(ctx, ports[0], l.process)
	}
	if err != nil {
		l.Stop()
		return nil, err
	}
	return l, nil
}

func (l *LDAP) fill(ctx context.Context, conf string, users map[string]string) error {
	data, ldif := filepath.Join(l.Dir, "data"), filepath.Join(l.Dir, "users.ldif")
	var entries strings.Builder
	fmt.Fprintf(&entries, "dn: %s\nobjectClass: dcObject\nobjectClass: organization\ndc: try\no: try\n\n", l.Base)
	for name, password := range users {
		fmt.Fprintf(&entries, "dn: cn=%[1]s,%[2]s\nobjectClass: person\ncn: %[1]s\nsn: %[1]s\nuserPassword: %[3]s\n\n", name, l.Base, password)
	}
	err := errors.Join(os.Mkdir(data, 0o700), os.WriteFile(ldif, []byte(entries.String()), 0o600), os.WriteFile(conf, fmt.Appendf(nil, `include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "%s"
directory %s
access to attrs=userPassword by anonymous auth by * none
access to * by * read
`, l.Base, data), 0o600))
	if err != nil {
		return err
	}
	path, err := find("slapadd", "slapd")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, path, "-f", conf, "-l", ldif).CombinedOutput(); err != nil {
		return fmt.Errorf("slapadd: %w: %s", err, out)
	}
	return nil
}

// Stop ends slapd and removes its folder.
func (l *LDAP) Stop() {
	if l.process != nil {
		l.process.Stop()
	}
	os.RemoveAll(l.Dir)
}

// Log returns what slapd logged.
func (l *LDAP) Log() []string { return l.process.Log() }

// RunLDAP is StartLDAP for a test.
func RunLDAP(t TB, users map[string]string) *LDAP {
	t.Helper()
	return run(t, "slapd", func(ctx context.Context) (*LDAP, error) { return StartLDAP(ctx, users) })
}
