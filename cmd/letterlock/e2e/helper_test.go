//go:build unix

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// helper is the argument list that makes the test binary do mode.
func helper(t testing.TB, mode string, args ...string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{self, "helper:" + mode}, args...)
}

// help is the test binary as a program that letterlock starts. Each writes down how it
// was called into the file of its first argument.
func help(mode string, args []string) int {
	note, err := os.OpenFile(args[0], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 99
	}
	fmt.Fprintf(note, "%s\n%q\n%q\n", mode, os.Args, os.Environ())
	defer note.Close()
	switch mode {
	case "browse": // NOTE PROXY URL: the person says yes
		// The test's own server fetches the page: this process trusts no authority.
		resp, err := http.Post(args[1], "text/plain", strings.NewReader(args[2]))
		if err != nil {
			return 1
		}
		resp.Body.Close()
	case "encrypt", "decrypt": // as far as a test can tell
		data, err := io.ReadAll(os.Stdin)
		for i := range data {
			data[i] ^= 0xa5
		}
		if _, writing := os.Stdout.Write(data); err != nil || writing != nil {
			return 1
		}
	case "show": // NOTE FILE
		data, err := os.ReadFile(args[1])
		if err != nil {
			return 1
		}
		_, _ = os.Stdout.Write(data)
	case "note": // what a person is told
	case "hang":
		_, _ = io.Copy(io.Discard, os.Stdin)
		forever := make(chan os.Signal, 1)
		signal.Notify(forever, syscall.SIGTERM)
		<-forever
	default:
		return 98
	}
	return 0
}
