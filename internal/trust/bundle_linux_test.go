package trust

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The places are those that the Go release in use reads: a bundle that crypto/x509 would
// not read must not count here.
func TestPlacesAreGos(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "src/crypto/x509/root_linux.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(source), "var certFiles = []string{")
	list, _, _ = strings.Cut(list, "\n}")
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^\s*"([^"]+)",`).FindAllStringSubmatch(list, -1) {
		want = append(want, m[1])
	}
	if len(want) < 3 || !slices.Equal(places(), want) {
		t.Errorf("crypto/x509 reads %q", want)
	}
}

// SSL_CERT_FILE stands for all places; what gives its text once, or is too large, is left
// to crypto/x509.
func TestBundle(t *testing.T) {
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	if err := os.WriteFile(path("there"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	large, err := os.Create(path("large"))
	if err != nil {
		t.Fatal(err)
	}
	if err := large.Truncate(maxBundle + 1); err != nil {
		t.Fatal(err)
	}
	large.Close()
	for name, want := range map[string]string{"there": "text", "pipe": "", "large": "", "missing": "", ".": ""} {
		t.Setenv("SSL_CERT_FILE", path(name))
		if got := string(bundle()); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// verifyChild names the certificate that a process of its own verifies: crypto/x509 reads
// its pool once.
const verifyChild = "LETTERLOCK_TEST_VERIFY"

// SSL_CERT_FILE and SSL_CERT_DIR mean what they mean to crypto/x509, with both, one or
// none of them pointing to the authority.
func TestVariables(t *testing.T) {
	if path := os.Getenv(verifyChild); path != "" {
		der, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify([]*x509.Certificate{cert}, "mail.test", nil, time.Time{}); err != nil {
			t.Log("bad:", err)
		} else {
			t.Log("good")
		}
		return
	}
	root, other := issue(t, "root", nil, nil), issue(t, "other", nil, nil)
	folder := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ours, theirs := write("root.pem", pemOf(root)), write("other.pem", pemOf(other))
	dirs := filepath.Dir(write("otherdir/a.pem", pemOf(other))) + ":" + filepath.Dir(write("dir/a.pem", pemOf(root)))
	none := filepath.Join(folder, "none")
	leaf := write("leaf.der", issue(t, "mail.test", root, server).cert.Raw)
	for _, c := range []struct {
		file, dir string
		good      bool
	}{{ours, none, true}, {theirs, none, false}, {none, none, false}, {theirs, dirs, true}, {none, dirs, true}, {ours, dirs, true}, {"", dirs, true}, {"", none, false}} {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestVariables$", "-test.v")
		child.Env = append(os.Environ(), verifyChild+"="+leaf, "SSL_CERT_FILE="+c.file, "SSL_CERT_DIR="+c.dir)
		out, err := child.CombinedOutput()
		if err != nil || strings.Contains(string(out), "good") != c.good {
			t.Errorf("SSL_CERT_FILE=%s SSL_CERT_DIR=%s: %v\n%s", c.file, c.dir, err, out)
		}
	}
}
