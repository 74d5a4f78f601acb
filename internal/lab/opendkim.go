package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// OpenDKIM is a running OpenDKIM that verifies: a milter that writes its verdict into
// an Authentication-Results field.
type OpenDKIM struct {
	Milter string // as smtpd_milters takes it

	dir     string
	process *Process
}

// StartOpenDKIM starts a verifier that signs its verdicts as authserv and looks keys up
// at nameserver. Its resolver asks nobody about names below "test." (RFC 6761).
func StartOpenDKIM(ctx context.Context, authserv, nameserver string) (*OpenDKIM, error) {
	path, err := find("opendkim", "opendkim")
	if err != nil {
		return nil, err
	}
	o, err := startRetry(func() (*OpenDKIM, error) { return startOpenDKIM(ctx, path, authserv, nameserver) })
	if err != nil {
		return nil, fmt.Errorf("start opendkim: %w", err)
	}
	return o, nil
}

func startOpenDKIM(ctx context.Context, path, authserv, nameserver string) (*OpenDKIM, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	o := &OpenDKIM{Milter: fmt.Sprintf("inet:127.0.0.1:%d", ports[0])}
	if o.dir, err = newFolder("opendkim"); err != nil {
		return nil, err
	}
	// Nothing is exempt: the lab's mail comes from addresses of this machine.
	conf := fmt.Sprintf(`Socket inet:%d@127.0.0.1
Mode v
AuthservID %s
Nameservers %s
AlwaysAddARHeader yes
InternalHosts 192.0.2.1
Syslog no
LogResults yes
Background no
AutoRestart no
`, ports[0], authserv, nameserver)
	file := filepath.Join(o.dir, "opendkim.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		os.RemoveAll(o.dir)
		return nil, err
	}
	o.process, err = StartProcess(ProcessOptions{Name: "opendkim", Path: path, Args: []string{"-f", "-l", "-x", file}, Env: append(os.Environ(), "LC_ALL=C")})
	if err != nil {
		os.RemoveAll(o.dir)
		return nil, err
	}
	// It says nothing once it listens.
	if err := waitPort(ctx, ports[0], o.process); err != nil {
		taken := strings.Contains(strings.Join(o.process.Log(), "\n"), "Address already in use")
		o.Stop()
		if taken {
			return nil, errPortTaken
		}
		return nil, err
	}
	return o, nil
}

// Stop ends it.
func (o *OpenDKIM) Stop() {
	o.process.Stop()
	os.RemoveAll(o.dir)
}

// Log returns what it logged.
func (o *OpenDKIM) Log() []string { return o.process.Log() }

// RunOpenDKIM is StartOpenDKIM for a test.
func RunOpenDKIM(t TB, authserv, nameserver string) *OpenDKIM {
	t.Helper()
	return run(t, "opendkim", func(ctx context.Context) (*OpenDKIM, error) { return StartOpenDKIM(ctx, authserv, nameserver) })
}
