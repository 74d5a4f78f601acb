package island

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const marker = "LETTERLOCK_ISLAND"

// Enter runs the test that calls it once more on an island. It returns true there; here
// it returns false when that run has passed, and fails the test when it has not.
func Enter(t *testing.T) bool {
	t.Helper()
	if os.Getenv(marker) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Fatal("island: only root can make a network namespace")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	limit := time.Hour
	if deadline, ok := t.Deadline(); ok {
		limit = time.Until(deadline) - 5*time.Second
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+limit.String())
	cmd.Env = append(os.Environ(), marker+"="+t.Name())
	// Go makes the mounts of the child private, so ours stay in it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("on the island: %v\n%s", err, out)
	}
	t.Logf("on the island:\n%s", out)
	return false
}

// An Island is what Enter has led to.
type Island struct {
	DNS *DNS
	// Source is the address that connections come from, to wherever they go.
	Source string
}

// Settle makes the island habitable: its interface is up, Source is its own address,
// and resolv.conf names its DNS server.
func Settle(t *testing.T, source string) *Island {
	t.Helper()
	run(t, "ip", "link", "set", "lo", "up")
	i := &Island{Source: source}
	// A new namespace begins with 10: too few for the log of a Postfix that starts.
	if err := os.WriteFile("/proc/sys/net/unix/max_dgram_qlen", []byte("512"), 0); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "addr", "add", source+"/32", "dev", "lo")
	var err error
	if i.DNS, err = startDNS("127.0.0.53:53"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.DNS.stop)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.53\noptions timeout:5 attempts:2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(conf, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("island: mount resolv.conf: %v", err)
	}
	return i
}

// Address gives the island more addresses. Who connects to them comes from Source, as
// it would from another machine.
func (i *Island) Address(t *testing.T, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		if ip := netip.MustParseAddr(address); ip.Is6() {
			run(t, "ip", "addr", "add", address+"/128", "dev", "lo", "nodad")
			continue
		}
		run(t, "ip", "addr", "add", address+"/32", "dev", "lo")
		run(t, "ip", "route", "replace", "local", address, "dev", "lo", "table", "local", "src", i.Source)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}
