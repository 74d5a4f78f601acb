package lab

import (
	"context"
	"time"
)

// TB is the part of testing.TB the lab uses; an interface of our own keeps
// package testing out of cmd/try.
type TB interface {
	Helper()
	Fatal(args ...any)
	Logf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// startBound is how long a server may take to get ready on a busy machine.
const startBound = 5 * time.Minute

// logTail is how much of a server's log a failed test prints.
const logTail = 40

type stopper interface{ Stop() }

type logger interface{ Log() []string }

// run starts something for a test: it ends the test when that fails, stops it
// at the end of the test, and prints its last log lines when the test failed.
func run[T stopper](t TB, name string, start func(context.Context) (T, error)) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startBound)
	defer cancel()
	v, err := start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		v.Stop()
		l, ok := any(v).(logger)
		if !ok || !t.Failed() {
			return
		}
		lines := l.Log()
		for _, line := range lines[max(0, len(lines)-logTail):] {
			t.Logf("%s: %s", name, line)
		}
	})
	return v
}

// RunCA makes a certificate authority for one test.
func RunCA(t TB) *CA {
	t.Helper()
	return run(t, "ca", func(context.Context) (*CA, error) { return NewCA("") })
}

// RunOP is StartOP for a test.
func RunOP(t TB, o OPOptions) *OP {
	t.Helper()
	return run(t, "op", func(ctx context.Context) (*OP, error) { return StartOP(ctx, o) })
}

// RunDovecot is StartDovecot for a test.
func RunDovecot(t TB, o DovecotOptions) *Dovecot {
	t.Helper()
	return run(t, "dovecot", func(ctx context.Context) (*Dovecot, error) { return StartDovecot(ctx, o) })
}

// RunPostfix is StartPostfix for a test.
func RunPostfix(t TB, o PostfixOptions) *Postfix {
	t.Helper()
	return run(t, "postfix", func(ctx context.Context) (*Postfix, error) { return StartPostfix(ctx, o) })
}

// RunSink is StartSink for a test.
func RunSink(t TB, o SinkOptions) *Sink {
	t.Helper()
	return run(t, "sink", func(context.Context) (*Sink, error) { return StartSink(o) })
}

// RunHTTPFault is StartHTTPFault for a test.
func RunHTTPFault(t TB, o HTTPFaultOptions) *HTTPFault {
	t.Helper()
	return run(t, "fault", func(context.Context) (*HTTPFault, error) { return StartHTTPFault(o) })
}

// RunTCPFault is StartTCPFault for a test.
func RunTCPFault(t TB, target string) *TCPFault {
	t.Helper()
	return run(t, "fault", func(context.Context) (*TCPFault, error) { return StartTCPFault(target) })
}

// RunNSD is StartNSD for a test.
func RunNSD(t TB, o NSDOptions) *NSD {
	t.Helper()
	return run(t, "nsd", func(ctx context.Context) (*NSD, error) { return StartNSD(ctx, o) })
}

// RunInternet is StartInternet for a test.
func RunInternet(t TB) *Internet {
	t.Helper()
	return run(t, "internet", func(context.Context) (*Internet, error) { return StartInternet() })
}

// RunGPG is StartGPG for a test.
func RunGPG(t TB, o GPGOptions) *GPG {
	t.Helper()
	return run(t, "gpg", func(ctx context.Context) (*GPG, error) { return StartGPG(ctx, o) })
}

// RunKeyring is StartKeyring for a test.
func RunKeyring(t TB, password string) *Keyring {
	t.Helper()
	return run(t, "keyring", func(ctx context.Context) (*Keyring, error) { return StartKeyring(ctx, password) })
}
