package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Services stop in reverse order, and only after the one above them is gone.
func TestOrder(t *testing.T) {
	var mu sync.Mutex
	var stopped []string
	service := func(name string) Service {
		return Service{name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			stopped = append(stopped, name)
			return nil
		}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := Run(ctx, quiet(), time.Minute, cancel, service("database"), service("mailauth"), service("pages")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"pages", "mailauth", "database"}; !slices.Equal(stopped, want) {
		t.Errorf("stopped %v, want %v", stopped, want)
	}
}

// One service that fails, or ends unasked, ends all of them, and is named.
func TestOneFails(t *testing.T) {
	for _, failure := range []error{errors.New("no such socket"), nil} {
		waits := Service{"waits", func(ctx context.Context) error { <-ctx.Done(); return nil }}
		err := Run(t.Context(), quiet(), time.Minute, nil, waits, Service{"breaks", func(context.Context) error { return failure }})
		if err == nil || !strings.Contains(err.Error(), "breaks: ") || failure != nil && !errors.Is(err, failure) {
			t.Errorf("%v: %v", failure, err)
		}
	}
}

// A service that does not stop is given up after its time, and the others still stop.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		var stopped bool
		ctx, cancel := context.WithCancel(t.Context())
		err := Run(ctx, quiet(), 5*time.Second, cancel,
			Service{"below", func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil }},
			Service{"stuck", func(context.Context) error { <-free; return nil }})
		if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "stop stuck") || !stopped {
			t.Errorf("%v, below stopped %t", err, stopped)
		}
		close(free)
	})
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Second)
		defer cancel()
		count := 0
		err := Every(time.Minute, quiet(), "sweep", func(context.Context) error { count++; return errors.New("away") })(ctx)
		if err != nil || count != 61 {
			t.Errorf("%d times in an hour, %v", count, err)
		}
	})
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth")
	first, err := ListenUnix(t.Context(), path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := ListenUnix(t.Context(), path, 0o660); err == nil {
		t.Error("took a living socket away")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".s*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the name stays: %v", err)
	}
}

func TestListenUnixInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := ListenUnix(t.Context(), path, 0o600)
	if err != nil {
		t.Fatal("a dead socket is in the way:", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(t.Context(), path, 0o600); err == nil {
		t.Error("a file was taken for a socket")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	getenv := func(name string) string { return map[string]string{"NOTIFY_SOCKET": path}[name] }
	if err := Notify(getenv, "READY=1"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	if n, err := manager.Read(got); err != nil || string(got[:n]) != "READY=1" {
		t.Errorf("%q, %v", got[:n], err)
	}
	if err := Notify(func(string) string { return "" }, "READY=1"); err != nil {
		t.Error(err)
	}
}
