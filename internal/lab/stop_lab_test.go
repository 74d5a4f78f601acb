//go:build lab

package lab_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// Stop must leave no process, no port and no folder behind, also with a client
// in the middle of a session.
func TestStopLeavesNothing(t *testing.T) {
	ctx := within(t)
	ca := lab.RunCA(t)
	op, err := lab.StartOP(ctx, lab.OPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := lab.StartDovecot(ctx, lab.DovecotOptions{CA: ca, Introspection: op.IntrospectionURL()})
	if err != nil {
		t.Fatal(err)
	}
	p, err := lab.StartPostfix(ctx, lab.PostfixOptions{CA: ca, Dovecot: d})
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{"op": op.Address}
	for name, port := range map[string]int{
		"imap": d.IMAP, "imaps": d.IMAPS, "pop3": d.POP3, "pop3s": d.POP3S, "submission": d.Submission, "submissions": d.Subs,
		"auth": d.AuthPort, "postfix submission": p.Submission, "postfix submissions": p.Subs, "smtp": p.SMTP,
	} {
		ports[name] = "127.0.0.1:" + itoa(port)
	}
	for name, addr := range ports {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Errorf("%s does not listen: %v", name, err)
			continue
		}
		defer conn.Close() // held open while the servers stop
		if name != "op" && !strings.HasSuffix(name, "s") {
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Errorf("%s does not greet: %v", name, err)
			}
		}
	}
	if groups := members(t, d.Pid(), p.Pid(), op.Pid()); groups < 6 {
		t.Fatalf("only %d processes were found: the check below would prove nothing", groups)
	}
	p.Stop()
	d.Stop()
	op.Stop()
	p.Stop() // twice does no harm
	if n := members(t, d.Pid(), p.Pid(), op.Pid()); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	for name, addr := range ports {
		if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s still listens at %s: %v", name, addr, err)
		}
	}
	for _, dir := range []string{d.Dir, p.Dir} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the folder %s is left: %v", dir, err)
		}
	}
}

// members counts the living processes of process groups.
func members(t *testing.T, groups ...int) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		_, rest, _ := strings.Cut(string(data), ") ") // the name may hold spaces
		fields := strings.Fields(rest)                // state, ppid, pgrp, ...
		for _, group := range groups {
			if len(fields) > 2 && fields[2] == itoa(group) && fields[0] != "Z" {
				n++
			}
		}
	}
	return n
}

func TestMissingProgramIsAnErrorWithAPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var missing *lab.Missing
	if _, err := lab.StartOP(context.Background(), lab.OPOptions{}); !errors.As(err, &missing) || missing.Package != "nodejs" {
		t.Errorf("without node: %v", err)
	}
}
