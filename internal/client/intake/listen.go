package intake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Listen makes the socket, for everybody to connect to. Its folder must be there, and
// must not be one that others can write to: who can may put his own socket in its
// place. One that a dead server left is replaced; one whose server lives is an error.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	dialer := net.Dialer{Timeout: dialTime}
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("somebody is already listening on %s", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("make the system's socket: %w", err)
		}
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("make the system's socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("make the system's socket: %w", err), listener.Close())
	}
	return listener, nil
}

// Present says whether there is something at path that a server made, alive or not.
func Present(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSocket != 0
}

// pause is for retries that nobody waits for.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
