package tokenstore

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"
)

// patience is how long a machine that does many other things may take: a guard against
// waiting for ever.
const patience = 5 * time.Minute

// TestMain lets the test binary be the programs that tests need: a pair that
// encrypts (as far as a test can tell), and ones that behave badly.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if mode, ok := strings.CutPrefix(os.Args[1], "helper:"); ok {
			os.Exit(help(mode, os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// helper is the argument list that makes the test binary do mode.
func helper(t testing.TB, mode string, args ...string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{self, "helper:" + mode}, args...)
}

func help(mode string, args []string) int {
	switch mode {
	case "encrypt":
		data, _ := io.ReadAll(os.Stdin)
		fmt.Print(hex.EncodeToString(flip(data)))
	case "decrypt":
		data, _ := io.ReadAll(os.Stdin)
		plain, err := hex.DecodeString(string(data))
		if err != nil {
			return 1
		}
		_, _ = os.Stdout.Write(flip(plain))
	case "copy":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "refuse":
		fmt.Fprintln(os.Stderr, "\x1b[31mlocked\x07\nask again later")
		return 2
	case "leak":
		_, _ = io.Copy(os.Stderr, os.Stdin)
		return 2
	case "flood":
		for {
			if _, err := os.Stdout.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
				return 1
			}
		}
	case "hang":
		_, _ = io.Copy(io.Discard, os.Stdin)
		forever := make(chan os.Signal, 1)
		signal.Notify(forever, os.Interrupt)
		<-forever
	case "show":
		data, err := os.ReadFile(args[0])
		if err != nil {
			return 1
		}
		_, _ = os.Stdout.Write(data)
	case "environ":
		fmt.Print(strings.Join(os.Environ(), "\n"))
	case "read":
		return readGrant(args)
	default:
		return 99
	}
	return 0
}

func flip(data []byte) []byte {
	for i := range data {
		data[i] ^= 0x5a
	}
	return data
}

// readGrant does what `letterlock token` does, in whatever surroundings it is run:
// arguments are the state folder, the key source, and what that source needs.
func readGrant(args []string) int {
	where := FindSurroundings(os.Environ())
	state, source := args[0], args[1]
	keys := map[string]Keys{
		"file":    NewFile(state + "/keys"),
		"gpg":     NewGPG(state+"/keys", "", where),
		"keyring": NewKeyring(state+"/keys", where),
		"pipe":    NewPipe(state+"/keys", nil, args[2:], where),
	}[source]
	store, err := Open(state + "/grants")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	plain, err := store.Read(context.Background(), "you@example.org", keys)
	if err != nil {
		fmt.Println(err)
		return 75
	}
	fmt.Printf("terminal=%q display=%v grant=%s\n", where.Terminal, where.Display, plain)
	return 0
}
