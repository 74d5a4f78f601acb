//go:build lab

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func decodeSASL(rest string) string {
	words := strings.Fields(rest)
	if len(words) < 2 {
		return ""
	}
	text, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil {
		return ""
	}
	return string(text)
}

// waiting is what letterlock queue list says, by recipient.
func (p *posting) waiting() (states map[string]string, ids map[string]string) {
	p.t.Helper()
	var entries []struct {
		ID, State  string
		Recipients []struct{ Address string }
	}
	out := p.must("", "letterlock", "queue", "list", "--json").stdout
	if err := json.Unmarshal([]byte(out), &entries); err != nil {
		p.t.Fatal(err, out)
	}
	states, ids = map[string]string{}, map[string]string{}
	for _, e := range entries {
		for _, r := range e.Recipients {
			states[r.Address], ids[r.Address] = e.State, e.ID
		}
	}
	return states, ids
}

// drainAll sends with a well server until nothing is queued.
func (p *posting) drainAll() map[string]string {
	p.t.Helper()
	p.server.set(false, false)
	for range 20 {
		p.must("", "letterlock", "queue", "retry", "--all")
		states, _ := p.waiting()
		queued := 0
		for _, state := range states {
			if state == "queued" || state == "active" {
				queued++
			}
		}
		if queued == 0 {
			return states
		}
	}
	p.t.Fatal("the queue does not empty at a server that takes everything")
	return nil
}

// settle checks each accepted message: delivered once, or reported, or known to be
// unknown; and nothing twice.
func (p *posting) settle(accepted []string, left map[string]string) {
	p.t.Helper()
	reports := p.reports()
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	count := map[string]int{}
	for to, n := range p.server.taken {
		if n > 1 {
			p.t.Errorf("%s was delivered %d times", to, n)
		}
	}
	for _, to := range accepted {
		switch state := left[to]; {
		case state == "unknown": // taken or not: only a person can find out
			count["unknown"]++
		case state != "":
			p.t.Errorf("%s is still %s", to, state)
		case p.server.taken[to] > 0: // more than once was told above
			count["delivered"]++
		case p.server.refused[to] && strings.Contains(reports, to):
			count["reported"]++
		default:
			p.t.Errorf("%s is lost: not taken, refused %v, no report", to, p.server.refused[to])
		}
	}
	p.t.Logf("%d accepted: %v", len(accepted), count)
	if count["delivered"] < len(accepted)/4 {
		p.t.Error("too few were delivered for a test")
	}
}

// reports is everything that the queue wrote to senders.
func (p *posting) reports() string {
	p.t.Helper()
	var all strings.Builder
	for _, path := range p.below(".local/state/letterlock/reports") {
		text, err := os.ReadFile(path)
		if err != nil {
			p.t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// below lists the files below a folder.
func (p *posting) below(folder string) []string {
	var files []string
	_ = filepath.WalkDir(p.path(folder), func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, path)
		}
		return nil
	})
	return files
}

// SIGKILL at any moment of the real program, sending to a server that hangs, drops,
// answers 4yz, 5yz or half a line at any stage: nothing is lost, and nothing is sent
// twice but what nobody could know.
func TestDrainIsKilled(t *testing.T) {
	const seed = 20261122
	p := newPosting(t, seed)
	p.sign("good")
	chance := rand.New(rand.NewPCG(seed, 2))
	var accepted []string
	killed := 0
	for i := range drainKills {
		for j := range 2 {
			if to := fmt.Sprintf("m%d.%d@x.test", i, j); p.post(to) {
				accepted = append(accepted, to)
			}
		}
		spared := i%8 == 7 // sees every fault through
		p.server.set(true, !spared)
		// retry makes due at once what has failed before.
		cmd := p.command(within(t), "letterlock", "queue", "retry", "--all")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if !spared {
			timer := time.AfterFunc(time.Duration(chance.IntN(120_000))*time.Microsecond, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
			defer timer.Stop()
		}
		if err := cmd.Wait(); err != nil && !cmd.ProcessState.Exited() {
			killed++
		}
	}
	p.settle(accepted, p.drainAll())
	t.Logf("%d of %d senders died", killed, drainKills)
	if killed < drainKills/4 {
		t.Error("too few died for a test")
	}
}

// A full disk, really: what is accepted is delivered once, the rest is refused with 75.
func TestDrainOnAFullDisk(t *testing.T) {
	p := newPosting(t, 3)
	p.sign("good")
	folder := p.path(".local/state/letterlock/queue")
	p.mkdir(".local/state/letterlock/queue")
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "letterlock-test", folder).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	p.letterlock("queue", "run") // makes its lock and pipe while there is room
	var accepted []string
	for i := range 1000 {
		to := fmt.Sprintf("d%d@x.test", i)
		if !p.post(to) {
			break
		}
		accepted = append(accepted, to)
	}
	if len(accepted) < 5 || len(accepted) == 1000 {
		t.Fatalf("%d accepted before the disk was full", len(accepted))
	}
	p.settle(accepted, p.drainAll())
	if !p.post("again@x.test") {
		t.Error("refused with room on the disk")
	}
}

// The sign-in falls due while the queue is full: what is left is held, nothing is
// bounced or lost, and after a new sign-in it is sent, once.
func TestSignInFallsDueInADrain(t *testing.T) {
	p := newPosting(t, 4)
	p.sign("first")
	var accepted []string
	for i := range 40 {
		if to := fmt.Sprintf("s%d@x.test", i); p.post(to) {
			accepted = append(accepted, to)
		}
	}
	p.server.revokeAt = 10
	// Connections that are open stay signed in, as they do at real servers; a new one
	// is refused.
	p.server.set(true, false)
	for range 30 {
		p.letterlock("queue", "retry", "--all")
	}
	states, ids := p.waiting()
	held := 0
	for to, state := range states {
		if state == "held" {
			held++
			p.must("", "letterlock", "queue", "release", ids[to])
		}
	}
	if held == 0 {
		t.Fatalf("nothing is held for a sign-in: %v", states)
	}
	p.sign("second")
	p.settle(accepted, p.drainAll())
	t.Logf("%d of %d were held", held, len(accepted))
}
