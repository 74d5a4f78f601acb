//go:build lab && linux

package lab_test

import (
	"os"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// TestRoom: what happens in a room stays there, and nothing of it is left.
func TestRoom(t *testing.T) {
	r := lab.RunRoom(t, lab.RoomOptions{Host: "other.try.test", Unpacked: []string{"mdadm"}})
	out, err := r.Command(within(t), []string{"PATH=/usr/bin:/usr/sbin"}, "sh", "-ec", `
hostname; pwd; echo text >/usr/bin/of-the-room; test -x /sbin/mdadm; test -x /usr/bin/env
ls -A /root /home /tmp; ps -o pid= -p 1; sleep 1000 >/dev/null 2>&1 &`).CombinedOutput()
	if err != nil || strings.Join(strings.Fields(string(out)), " ") != "other.try.test / /home: /root: /tmp: 1" {
		t.Errorf("in the room: %v\n%s", err, out)
	}
	if text, err := os.ReadFile(r.Path("/usr/bin/of-the-room")); err != nil || string(text) != "text\n" {
		t.Errorf("through Path: %q %v", text, err)
	}
	if host, _ := os.Hostname(); host == "other.try.test" {
		t.Error("the machine has the room's name")
	}
	root := r.Path("/")
	r.Stop()
	for _, gone := range []string{root, "/usr/bin/of-the-room"} {
		if _, err := os.Stat(gone); !os.IsNotExist(err) {
			t.Errorf("%s: %v", gone, err)
		}
	}
}
