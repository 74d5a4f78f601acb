//go:build lab && linux

package callers

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// TestInstall: make puts every name in place below DESTDIR, replaces nobody's file,
// and takes away no more than it brought.
func TestInstall(t *testing.T) {
	if out, err := exec.Command("make", "-C", "../../..", "build").CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	for _, prefix := range []string{"/usr/local", "/usr"} {
		root := t.TempDir()
		make := func(targets ...string) (string, error) {
			out, err := exec.Command("make", append([]string{"-s", "-C", "../../..", "-o", "build", "DESTDIR=" + root, "PREFIX=" + prefix}, targets...)...).CombinedOutput()
			return string(out), err
		}
		if out, err := make("install-sendmail"); err == nil || !strings.Contains(out, "make install first") {
			t.Errorf("links to nothing: %v\n%s", err, out)
		}
		if out, err := make("install", "install-sendmail"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		names := []string{"/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/mailq", "/usr/bin/newaliases", "/usr/bin/mailx", "/usr/bin/mail"}
		for _, name := range []string{"sbin/sendmail", "lib/sendmail", "bin/mailq", "bin/newaliases", "bin/mailx", "bin/mail", "bin/mutt_oauth2.py"} {
			names = append(names, filepath.Join(prefix, name))
		}
		for _, name := range names {
			if to, err := os.Readlink(root + name); err != nil || to != prefix+"/bin/letterlock" {
				t.Errorf("%s leads to %q: %v", name, to, err)
			}
		}
		for _, name := range []string{"bin/letterlock", "share/man/man1/letterlock-sendmail.1", "share/man/man5/letterlock.toml.5",
			"share/bash-completion/completions/letterlock", "lib/systemd/user/letterlock-queue.timer", "lib/systemd/system/letterlock-agent.service"} {
			if info, err := os.Stat(filepath.Join(root, prefix, name)); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v", name, err)
			}
		}
		if out, err := make("install", "install-sendmail"); err != nil {
			t.Errorf("a second time: %v\n%s", err, out)
		}

		foreign := root + "/usr/bin/mailq"
		if err := os.Remove(foreign); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(foreign, []byte("Postfix's"), 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := make("install-sendmail")
		if err == nil || !strings.Contains(out, "dpkg-divert --local --rename --divert /usr/bin/mailq.distrib --add /usr/bin/mailq") {
			t.Errorf("over another's file: %v\n%s", err, out)
		}
		if out, err := make("uninstall", "uninstall-sendmail"); err != nil {
			t.Errorf("uninstall: %v\n%s", err, out)
		}
		if left := files(t, root); len(left) != 1 || left[0] != foreign {
			t.Errorf("left behind, or taken away: %v", left)
		}
	}
}

// TestTakenBack: after the way in over other packages' files, and the way out again as
// docs/sendmail.md has it, these are what they were.
func TestTakenBack(t *testing.T) {
	m := &machine{t: t, room: lab.RunRoom(t, lab.RoomOptions{Unpacked: []string{"bsd-mailx"}})}
	m.sh("root", "rm -f /usr/bin/mail /usr/bin/mailx") // of the machine outside, if it has any
	before := m.sh("root", "ls -l /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases")
	m.install()
	if same := m.sh("root", "ls -l /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases"); same == before {
		t.Fatalf("nothing was put in place:\n%s", same)
	}
	m.sh("root", m.make()+"uninstall-sendmail uninstall\n"+
		"for name in /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases; do dpkg-divert --quiet --rename --remove $name; done")
	if after := m.sh("root", "ls -l /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases"); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
	if left := m.sh("root", "find /usr/local /usr/bin/ /usr/sbin/ /usr/lib/sendmail -lname '*letterlock*' -o -name '*letterlock*'; dpkg-divert --list '*sendmail*'; dpkg-divert --list '*mailq*'"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// files are all that are no folders.
func files(t *testing.T, root string) (all []string) {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
