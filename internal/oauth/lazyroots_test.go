//go:build linux

package oauth

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRootsAreReadLate puts a pipe in place of the system's certificates: opening it
// for writing succeeds at the moment that a process reads it.
func TestRootsAreReadLate(t *testing.T) {
	server := serve(t, reply(200, `{"access_token":"a"}`))
	secure := newTLSServer(t)
	for _, test := range []struct {
		place string
		read  bool
	}{{server.URL, false}, {secure, true}} {
		pipe := filepath.Join(t.TempDir(), "roots.pem")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		opened := make(chan bool, 1)
		go func() {
			file, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for a reader
			if err == nil {
				_ = file.Close()
			}
			opened <- true
		}()
		out := child(t, test.place, "SSL_CERT_FILE="+pipe, "SSL_CERT_DIR="+t.TempDir())
		read := false
		select {
		case read = <-opened:
		default:
			release, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			<-opened
			_ = release.Close()
		}
		if read != test.read {
			t.Errorf("%s: system roots read = %v, want %v (%s)", test.place, read, test.read, strings.TrimSpace(out))
		}
	}
}
