package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sockets are the listeners that a service manager opened before it started us, by
// their names (sd_listen_fds(3), FileDescriptorName= of the socket unit). They survive
// our crashes and restarts: connections wait in the kernel instead of being refused.
type Sockets struct {
	byName map[string][]net.Listener
}

// maxSockets bounds what LISTEN_FDS may claim.
const maxSockets = 64

// firstSocket is SD_LISTEN_FDS_START.
const firstSocket = 3

// Inherited takes over the sockets of the service manager. Without one it returns none.
func Inherited(getenv func(string) string) (*Sockets, error) {
	s := &Sockets{byName: map[string][]net.Listener{}}
	if pid, _ := strconv.Atoi(getenv("LISTEN_PID")); pid != os.Getpid() {
		return s, nil
	}
	count, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || count < 0 || count > maxSockets {
		return s, fmt.Errorf("take over sockets: LISTEN_FDS is %.20q", getenv("LISTEN_FDS"))
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	var problems []error
	for i := range count {
		name := "unknown"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		file := os.NewFile(uintptr(firstSocket+i), name)
		listener, err := net.FileListener(file)
		problems = append(problems, file.Close())
		if err != nil {
			problems = append(problems, fmt.Errorf("take over socket %s: %w", name, err))
			continue
		}
		s.byName[name] = append(s.byName[name], listener)
	}
	return s, errors.Join(problems...)
}

// Take returns the listeners of that name, once.
func (s *Sockets) Take(name string) []net.Listener {
	taken := s.byName[name]
	delete(s.byName, name)
	return taken
}

// Left names the sockets that nobody took: a unit and a configuration that do not fit.
func (s *Sockets) Left() []string {
	return slices.Sorted(maps.Keys(s.byName))
}

// ListenUnix makes a Unix socket that only its owner and group may connect to when mode
// is 0660. A socket that nobody listens on any more is replaced; one that answers is an
// error, and so is anything at path that is no socket.
func ListenUnix(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	if err := removeDead(ctx, path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// A name of its own first, with the final rights, then renamed: nobody can connect
	// in between to a socket whose rights are wider.
	folder, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer os.RemoveAll(folder)
	temporary := filepath.Join(folder, "s")
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", temporary)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(temporary, mode), os.Rename(temporary, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), listener.Close())
	}
	return &unixListener{Listener: listener, path: path}, nil
}

type unixListener struct {
	net.Listener
	path string
}

// Close removes the name too: net would remove the temporary one.
func (l *unixListener) Close() error {
	return errors.Join(os.Remove(l.path), l.Listener.Close())
}

func removeDead(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return errors.New("something that is no socket is in the way")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return errors.New("another process is listening there")
	}
	return os.Remove(path)
}

// Notify tells the service manager that something has happened: "READY=1", "STOPPING=1",
// "WATCHDOG=1" (sd_notify(3)). Without one it does nothing.
func Notify(getenv func(string) string, state string) error {
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}
