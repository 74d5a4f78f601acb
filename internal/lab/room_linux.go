package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// RoomOptions describe a private root.
type RoomOptions struct {
	// Host is the machine's name in the room. Default: box.try.test.
	Host string
	// Unpacked are Debian packages of packages-unpacked.txt whose files are put
	// into the room; they are not installed outside.
	Unpacked []string
}

// Room is a machine in the machine: a private root made of this one's files, in
// which programs that would be in each other's way, or in ours, can be put in
// place, configured and started as on a computer of their own. What is written
// there goes into memory and is gone with the room, and so is every process,
// daemons too. The network is the machine's, so that the lab's servers answer.
//
// /tmp, /run, /root, /home and /dev are its own and begin empty; there are no
// cron jobs but those the test makes. This project's folder is at /src, to be read.
type Room struct {
	base    string
	pid     int
	process *Process
}

// StartRoom makes a room; about 0.1 s. It must be root.
func StartRoom(ctx context.Context, o RoomOptions) (*Room, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("start room: only root can: it mounts")
	}
	if o.Host == "" {
		o.Host = "box.try.test"
	}
	source, err := moduleRoot()
	if err != nil {
		return nil, fmt.Errorf("start room: %w", err)
	}
	args := []string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "bash", "-c", roomScript, "room", o.Host}
	r := &Room{}
	if r.base, err = newFolder("room"); err != nil {
		return nil, err
	}
	args = append(args, r.base, source)
	for _, name := range o.Unpacked {
		dir, err := unpackedFolder(name)
		if err != nil {
			os.RemoveAll(r.base)
			return nil, err
		}
		args = append(args, dir)
	}
	// Its standard input is its life: when we end, in whatever way, it ends.
	r.process, err = StartProcess(ProcessOptions{Name: "room", Path: "/usr/bin/unshare", Args: args, Stdin: true, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}})
	if err != nil {
		os.RemoveAll(r.base)
		return nil, fmt.Errorf("start room: %w", err)
	}
	line, err := r.process.WaitLog(ctx, func(s string) bool { return strings.HasPrefix(s, "ready ") })
	if err == nil {
		r.pid, err = strconv.Atoi(strings.TrimPrefix(line, "ready "))
	}
	if err != nil {
		r.Stop()
		return nil, fmt.Errorf("start room: %w", err)
	}
	return r, nil
}

// RunRoom is StartRoom for a test.
func RunRoom(t TB, o RoomOptions) *Room {
	t.Helper()
	return run(t, "room", func(ctx context.Context) (*Room, error) { return StartRoom(ctx, o) })
}

// roomScript is the first process of the room. The id it tells is the one outside.
// At the end it waits, and reaps what daemons leave behind.
const roomScript = `set -e
while read -r key value _; do [ "$key" != NSpid: ] || pid=$value; done </proc/self/status
hostname "$1"; base=$2; source=$3; shift 3
mount -t tmpfs -o mode=0755 room "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" room "$base/root"
cd "$base/root"
# A package's /sbin goes to where the link /sbin leads.
for tree; do tar -C "$tree" -c . | tar -x --keep-directory-symlink --no-overwrite-dir; done
# Where it lies outside may be below /tmp, or on another disk.
mkdir -p src; mount --bind "$source" src; mount -o remount,bind,ro src
mount -t proc proc proc
for dir in tmp var/tmp; do mount -t tmpfs -o mode=1777 room $dir; done
for dir in run home; do mount -t tmpfs -o mode=0755 room $dir; done
mount -t tmpfs -o mode=0700 room root
mount -t tmpfs -o mode=0755 room dev
mknod -m 666 dev/null c 1 3; mknod -m 666 dev/zero c 1 5; mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8; mknod -m 666 dev/urandom c 1 9; mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 room dev/shm
rm -f etc/crontab etc/cron.d/* var/spool/cron/crontabs/* var/spool/cron/atjobs/* etc/mailname
echo "127.0.1.1 $(hostname) $(hostname -s)" >>etc/hosts
exec chroot . bash -c 'cd /; echo ready '"$pid"'; while read -r _; do :; done'
`

// Command prepares a program in the room, with env for its environment and / for its
// folder. Killing it does not reach its children; Stop does.
func (r *Room) Command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/usr/bin/nsenter", append([]string{
		"--target", strconv.Itoa(r.pid), "--mount", "--uts", "--ipc", "--pid", "--root", "--wd", "--", name}, args...)...)
	cmd.Env = append([]string{}, env...)
	cmd.WaitDelay = 5 * time.Second // a daemon it started may keep its output open
	return cmd
}

// Path is how a file in the room is reached from outside.
func (r *Room) Path(name string) string {
	return filepath.Join("/proc", strconv.Itoa(r.pid), "root", name)
}

// Stop ends every process in the room and forgets all files.
func (r *Room) Stop() {
	if r.process != nil {
		_ = r.process.SendAll("") // unshare itself takes no signals; an error: it ended before
		select {
		case <-r.process.Done():
		case <-time.After(5 * time.Second):
		}
		r.process.Stop()
	}
	os.RemoveAll(r.base)
}

// Log returns what the room's first process said.
func (r *Room) Log() []string { return r.process.Log() }
