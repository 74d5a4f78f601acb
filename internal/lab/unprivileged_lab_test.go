//go:build lab

package lab_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

const nobody = 65534

// cmd/try runs Dovecot as whoever calls it. As root, the test runs itself again
// as nobody.
func TestDovecotWithoutRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	introspection := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("token") == "good" {
			_, _ = io.WriteString(w, `{"active":true,"scope":"mail","email":"alice@try.test"}`)
			return
		}
		_, _ = io.WriteString(w, `{"active":false}`)
	}))
	t.Cleanup(introspection.Close)
	ca := lab.RunCA(t)
	sink := lab.RunSink(t, lab.SinkOptions{})
	d := lab.RunDovecot(t, lab.DovecotOptions{CA: ca, Introspection: introspection.URL, Relay: sink.Addr()})
	if err := d.Put("alice@try.test", []byte("Subject: hello\n\nlaid there\n")); err != nil {
		t.Fatal(err)
	}
	for proto, port := range map[string]int{"imap": d.IMAPS, "pop3": d.POP3S, "smtp": d.Subs} {
		out, err := python(ca, "good", proto, itoa(port), "tls", "OAUTHBEARER", "alice@try.test", "carol@elsewhere.test")
		if err != nil || (proto != "smtp" && !strings.Contains(out, "laid there")) {
			t.Errorf("%s: %v\n%s", proto, err, out)
		}
		if out, err := python(ca, "bad", proto, itoa(port), "tls", "OAUTHBEARER", "alice@try.test", "carol@elsewhere.test"); err == nil {
			t.Errorf("%s accepted a bad token:\n%s", proto, out)
		}
	}
	if _, err := lab.StartPostfix(within(t), lab.PostfixOptions{CA: ca}); err == nil || !strings.Contains(err.Error(), "root") {
		t.Errorf("postfix without root: %v", err)
	}
}

func asNobody(t *testing.T) {
	t.Helper()
	// Neither go's build folder nor the test's own may be entered by others.
	dir, err := os.MkdirTemp("", "lab-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "lab.test")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), binary, "-test.run=^TestDovecotWithoutRoot$", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestDovecotWithoutRoot") {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
