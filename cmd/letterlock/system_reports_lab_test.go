//go:build lab && linux

package main

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// own USER PATH...: gives files to a user of the cage.
func ownCommand(ts *testscript.TestScript, _ bool, args []string) {
	who, err := user.Lookup(args[0])
	ts.Check(err)
	uid, err := strconv.Atoi(who.Uid)
	ts.Check(err)
	for _, path := range args[1:] {
		ts.Check(os.Chown(path, uid, uid))
	}
}

// reported MAILDIR N TEXT: waits until N mails are in there, and TEXT is in one of them.
func reportedCommand(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	for deadline := time.Now().Add(longest); ; {
		files, err := filepath.Glob(args[0] + "/new/*")
		ts.Check(err)
		found := false
		for _, file := range files {
			text, err := os.ReadFile(file)
			ts.Check(err)
			found = found || strings.Contains(string(text), args[2])
		}
		switch {
		case len(files) == want && found:
			return
		case len(files) > want || time.Now().After(deadline):
			ts.Fatalf("%d mails in %s, want %d; with %q: %v", len(files), args[0], want, args[2], found)
		}
		<-time.After(20 * time.Millisecond)
	}
}
