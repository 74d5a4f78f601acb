//go:build lab && linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// caged is set in the process that has folders of its own for /etc, /run, /root,
// /home and /var/lib, in a mount namespace: the scripts work with the real paths and real uids
// and leave nothing behind.
const caged = "LETTERLOCK_TEST_CAGE"

// TestSystemQueue has several users hand mail to a real agent --system.
func TestSystemQueue(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test must be root: it works as several users")
	}
	if os.Getenv(caged) == "" {
		enterCages(t)
		return
	}
	makeCage(t)
	runScripts(t, "testdata/system", func(p *testscript.Params) {
		setup := p.Setup
		p.Setup = func(env *testscript.Env) error {
			if err := setup(env); err != nil {
				return err
			}
			env.Setenv("PATH", "/run/bin:"+env.Getenv("PATH"))
			return nil
		}
		p.Cmds["as"] = asCommand
		p.Cmds["systemready"] = systemReadyCommand
		p.Cmds["systemaccount"] = systemAccountCommand
		p.Cmds["storm"] = stormCommand
		p.Cmds["allof"] = allOfCommand
		p.Cmds["eventually"] = eventuallyCommand
		p.Cmds["sendall"] = sendAllCommand
		p.Cmds["everyone"] = everyoneCommand
		p.Cmds["hold"] = holdCommand
		p.Cmds["own"] = ownCommand
		p.Cmds["reported"] = reportedCommand
	})
}

// enterCages builds the binary and runs this test again in namespaces of its own, once
// for each script: they share /etc.
func enterCages(t *testing.T) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "letterlock")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	scripts, err := filepath.Glob("testdata/system/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	self := t.Name()
	for _, script := range scripts {
		name := strings.TrimSuffix(filepath.Base(script), ".txtar")
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+self+"$/^"+name+"$", "-test.v", "-test.timeout=10m")
			cmd.Env = append(os.Environ(), caged+"="+binary)
			// Go makes every mount private in the new namespace, so nothing gets out of it; and
			// whatever sendmail left behind ends with the process that is the first in there.
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Cloneflags: syscall.CLONE_NEWPID}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: "+self+"/"+name) {
				t.Errorf("in the cage: %v\n%s", err, out)
			}
		})
	}
}

// The people of the cage. carol has no home, dave none that he can write to.
const (
	passwd = `root:x:0:0:Charlie Root:/root:/bin/sh
www-data:x:33:33:www:/var/www:/bin/sh
letterlock:x:900:900::/var/lib/letterlock:/bin/false
alice:x:1001:1001:Alice Adams,room 1:/home/alice:/bin/sh
bob:x:1002:1002::/home/bob:/bin/sh
carol:x:1003:1003::/nonexistent:/bin/sh
dave:x:1004:1004::/home/dave:/bin/sh
`
	group = `root:x:0:
www-data:x:33:
staff:x:50:bob
letterlock:x:900:
alice:x:1001:
bob:x:1002:
carol:x:1003:
dave:x:1004:
`
)

func makeCage(t *testing.T) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	hosts, err := os.ReadFile("/etc/hosts")
	must(err)
	for _, folder := range []string{"/etc", "/run", "/home", "/var/lib", "/root"} {
		must(syscall.Mount("letterlock-test", folder, "tmpfs", 0, "mode=0755"))
	}
	must(syscall.Mount("proc", "/proc", "proc", 0, "")) // of the new process namespace
	binary, err := os.ReadFile(os.Getenv(caged))
	must(err)
	must(os.Mkdir("/run/bin", 0o755))
	must(os.WriteFile("/run/bin/letterlock", binary, 0o755))
	for _, name := range []string{"sendmail", "mailx", "mail", "mailq"} {
		must(os.Symlink("letterlock", "/run/bin/"+name))
	}
	must(os.Symlink("/usr/bin/python3", "/run/bin/python3"))
	for name, text := range map[string]string{"passwd": passwd, "group": group, "hosts": string(hosts), "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
		"aliases": "postmaster: root\n", "mailname": "host.try.test\n"} {
		must(os.WriteFile("/etc/"+name, []byte(text), 0o644))
	}
	own := func(path string, mode os.FileMode, uid int) {
		must(os.Mkdir(path, mode))
		must(os.Chmod(path, mode))
		must(os.Chown(path, uid, uid))
	}
	own("/etc/letterlock", 0o755, 900)
	own("/var/lib/letterlock", 0o700, 900)
	own("/home/alice", 0o700, 1001)
	own("/home/bob", 0o700, 1002)
	own("/home/dave", 0o555, 0)
}

// personal is the command of a person of the cage, with the environment that cron gives.
func personal(name string, args ...string) (*exec.Cmd, error) {
	who, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	groups, err := who.GroupIds()
	if err != nil {
		return nil, err
	}
	credential := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, id := range groups {
		n, _ := strconv.Atoi(id)
		credential.Groups = append(credential.Groups, uint32(n))
	}
	cmd := exec.Command("/run/bin/"+args[0], args[1:]...)
	cmd.Env = []string{"PATH=/run/bin:/usr/bin:/bin", "HOME=" + who.HomeDir, "LOGNAME=" + name}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	return cmd, nil
}

// as CODE PERSON PROGRAM ARGS...: that person runs it, with the file "mail" on standard
// input, and it ends with that code. What it says is in the files "out" and "said".
func asCommand(ts *testscript.TestScript, _ bool, args []string) {
	cmd, err := personal(args[1], args[2:]...)
	ts.Check(err)
	in, err := os.Open(ts.MkAbs("mail"))
	ts.Check(err)
	defer in.Close()
	var out, said strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &said
	err = cmd.Run()
	if cmd.ProcessState == nil {
		ts.Fatalf("%v", err)
	}
	ts.Logf("[%s]\n%s%s", args[1], out.String(), said.String())
	ts.Check(os.WriteFile(ts.MkAbs("out"), []byte(out.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("said"), []byte(said.String()), 0o600))
	if code := strconv.Itoa(cmd.ProcessState.ExitCode()); code != args[0] {
		ts.Fatalf("%s ended with %s, want %s: %s", args[2], code, args[0], said.String())
	}
}

// allof PERSON hold|release|remove: what that person may do with all messages of his.
func allOfCommand(ts *testscript.TestScript, _ bool, args []string) {
	list, err := personal(args[0], "letterlock", "queue", "list", "--json")
	ts.Check(err)
	out, err := list.Output()
	ts.Check(err)
	var entries []struct{ ID string }
	ts.Check(json.Unmarshal(out, &entries))
	command := []string{"letterlock", "queue", args[1]}
	for _, e := range entries {
		command = append(command, e.ID)
	}
	do, err := personal(args[0], command...)
	ts.Check(err)
	out, err = do.CombinedOutput()
	ts.Logf("%s", out)
	ts.Check(err)
}

// eventually PERSON TEXT PROGRAM ARGS...: that person runs it until its output has the
// text: for what a process does that sendmail left behind.
func eventuallyCommand(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(longest)
	for {
		cmd, err := personal(args[0], args[2:]...)
		ts.Check(err)
		out, _ := cmd.CombinedOutput()
		if strings.Contains(string(out), args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v: no %q in\n%s", args[2:], args[1], out)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// systemready [FILE]: a fresh system with an account "cron" that can only send, and
// whatever the file adds to its configuration.
func systemReadyCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, folder := range []string{"/var/lib/letterlock", "/etc/letterlock", "/home/alice", "/home/bob", "/run/letterlock", "/root"} {
		inside, _ := filepath.Glob(folder + "/*")
		hidden, _ := filepath.Glob(folder + "/.[a-z]*")
		for _, path := range append(inside, hidden...) {
			ts.Check(os.RemoveAll(path))
		}
	}
	systemAccountCommand(ts, false, []string{"cron", "you@example.org"})
	text := "\n[queue]\nroot = [\"ops@example.org\"]\n"
	if len(args) > 0 {
		more, err := os.ReadFile(ts.MkAbs(args[0]))
		ts.Check(err)
		text = string(more)
	}
	file, err := os.OpenFile("/etc/letterlock/letterlock.toml", os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	_, err = fmt.Fprint(file, text)
	ts.Check(err)
	ts.Check(file.Close())
}

// systemaccount NAME ADDRESS: one more account of the system that can only send.
func systemAccountCommand(ts *testscript.TestScript, _ bool, args []string) {
	pasteCommand(ts, false, []string{"login", args[1], "--system", "--account", args[0], "--issuer", ts.Getenv("ISSUER"), "--client-id", "abc",
		"--flow", "paste", "--key", "file", "--send-only", "--smtp", ts.Getenv("SMTP"), "--smtp-security", "plain"})
}

// storm N: alice and bob send N messages in all, several at a time, while the agent is
// killed and started again, at moments that a seed chooses.
func stormCommand(ts *testscript.TestScript, _ bool, args []string) {
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	chance := rand.New(rand.NewPCG(7, uint64(count)))
	over, killed := make(chan struct{}), make(chan error, 1)
	go func() {
		kills := 0
		for {
			agent := exec.Command("/run/bin/letterlock", "agent", "--system")
			agent.Env = []string{"PATH=/run/bin:/usr/bin:/bin", "HOME=/root"}
			if err := agent.Start(); err != nil {
				killed <- err
				return
			}
			select {
			case <-time.After(time.Duration(10+chance.IntN(100)) * time.Millisecond):
			case <-over:
			}
			_ = agent.Process.Kill()
			_ = agent.Wait()
			kills++
			select {
			case <-over:
				ts.Logf("killed %d agents", kills)
				killed <- nil
				return
			default:
			}
		}
	}()
	var senders sync.WaitGroup
	faults := make(chan error, count)
	for i, name := range []string{"alice", "bob", "alice", "bob"} {
		senders.Go(func() {
			for n := i; n < count; n += 4 {
				cmd, err := personal(name, "sendmail", "-i", fmt.Sprintf("storm%d@example.org", n))
				if err == nil {
					cmd.Stdin = strings.NewReader("Subject: storm\n\nx\n")
					var out []byte
					if out, err = cmd.CombinedOutput(); err != nil {
						err = fmt.Errorf("%w: %s", err, out)
					}
				}
				if err != nil {
					faults <- err
				}
			}
		})
	}
	senders.Wait()
	close(over)
	ts.Check(<-killed)
	close(faults)
	for err := range faults {
		ts.Fatalf("%v", err)
	}
}

// sendall: the system's queue is sent to its end, what is unknown too.
func sendAllCommand(ts *testscript.TestScript, _ bool, _ []string) {
	deadline := time.Now().Add(longest)
	for {
		list, err := personal("letterlock", "letterlock", "queue", "list", "--json", "--system")
		ts.Check(err)
		out, err := list.Output()
		ts.Check(err)
		var entries []struct{ ID, State string }
		ts.Check(json.Unmarshal(out, &entries))
		if len(entries) == 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("still waiting: %s", out)
		}
		for _, e := range entries {
			if e.State != "unknown" && e.State != "queued" {
				continue
			}
			// One that has left meanwhile needs no push.
			retry, err := personal("letterlock", "letterlock", "queue", "retry", "--system", e.ID)
			ts.Check(err)
			_ = retry.Run()
		}
	}
}

// everyone N: storm's recipients have got their letters, each one.
func everyoneCommand(ts *testscript.TestScript, _ bool, args []string) {
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	o := worldOf(ts).office
	o.mu.Lock()
	defer o.mu.Unlock()
	got := map[string]int{}
	for _, l := range o.letters {
		for _, to := range l.to {
			got[to]++
		}
	}
	for n := range count {
		if to := fmt.Sprintf("storm%d@example.org", n); got[to] != 1 {
			ts.Fatalf("%s got %d letters", to, got[to])
		}
	}
}

// hostile opens connections of every rude kind, says so, and keeps them.
const hostile = `
import socket, sys
kept = []
for kind in range(90):
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/letterlock/submit.sock")
    text = [b"", b"LETTERLOCK SUBMIT 1 100 100000\n", b"EHLO me\r\n", b"LETTERLOCK SUBMIT 1 1000000 1\n" + b"x" * 1000][kind % 4]
    try:
        s.sendall(text)
        if kind % 3 == 0: s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    kept.append(s)
print("held", flush=True)
sys.stdin.read()
`

// hold PERSON: connections of that person that lead nowhere, until the script ends.
func holdCommand(ts *testscript.TestScript, _ bool, args []string) {
	cmd, err := personal(args[0], "python3", "-c", hostile)
	ts.Check(err)
	in, err := cmd.StdinPipe()
	ts.Check(err)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		ts.Fatalf("%q, %v", line, err)
	}
}
