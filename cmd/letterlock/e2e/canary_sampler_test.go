//go:build linux

package e2e

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// samplePause is between two looks at all processes.
const samplePause = 5 * time.Millisecond

// A sampler keeps reading how every process that carries its mark, or descends from
// this test, was called, and what is in its environment: what ps shows to everybody on
// the computer, and what a crash report takes along.
type sampler struct {
	mark string // an entry of the environment
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	shown   map[string]string // cmdline or environ -> program
	changed chan struct{}
}

// newSampler starts it; it ends with the test.
func newSampler(t testing.TB) *sampler {
	t.Helper()
	s := &sampler{
		mark: "SAMPLED=" + strconv.Itoa(os.Getpid()) + t.Name(), stop: make(chan struct{}), done: make(chan struct{}),
		shown: map[string]string{}, changed: make(chan struct{}),
	}
	go s.run()
	t.Cleanup(s.end)
	return s
}

func (s *sampler) end() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	<-s.done
}

func (s *sampler) run() {
	defer close(s.done)
	tick := time.NewTicker(samplePause)
	defer tick.Stop()
	strangers := map[string]bool{}
	for n := 0; ; n++ {
		if n%200 == 0 {
			clear(strangers) // process ids come round again
		}
		s.sample(strangers)
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
	}
}

func (s *sampler) sample(strangers map[string]bool) {
	folders, _ := filepath.Glob("/proc/[0-9]*")
	me := strconv.Itoa(os.Getpid())
	for _, folder := range folders {
		if strangers[folder] || filepath.Base(folder) == me {
			continue
		}
		// The environment of letterlock itself is for root alone, see TestUndumpable.
		environ, _ := os.ReadFile(folder + "/environ")
		if !bytes.Contains(environ, []byte(s.mark)) && parentOf(folder) != me {
			strangers[folder] = true
			continue
		}
		cmdline, _ := os.ReadFile(folder + "/cmdline")
		s.note(environ, string(cmdline))
		s.note(cmdline, string(cmdline))
	}
}

func (s *sampler) note(text []byte, program string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.shown[string(text)]; known || len(text) == 0 {
		return
	}
	s.shown[string(text)] = program
	close(s.changed)
	s.changed = make(chan struct{})
}

// parentOf reads the fourth field of proc_pid_stat(5).
func parentOf(folder string) string {
	stat, _ := os.ReadFile(folder + "/stat")
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return ""
	}
	return fields[1]
}

// await waits until a text was seen that holds part.
func (s *sampler) await(t testing.TB, part string) {
	t.Helper()
	ctx := within(t)
	for {
		s.mu.Lock()
		texts, changed := slices.Collect(maps.Keys(s.shown)), s.changed
		s.mu.Unlock()
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, part) }) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("no process showed %q", part)
		}
	}
}

// leaks are the processes that showed a canary, and with them how many texts of which
// programs were looked at.
func (s *sampler) leaks(c *cage) (leaks []string, programs map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	programs = map[string]int{}
	for text, cmdline := range s.shown {
		argv := strings.Split(cmdline, "\x00")
		name := filepath.Base(argv[0])
		if len(argv) > 1 && strings.HasPrefix(argv[1], "helper:") {
			name = argv[1]
		}
		programs[name]++
		if kinds := c.seen([]byte(text)); kinds != nil {
			leaks = append(leaks, name+" showed "+strings.Join(kinds, ", "))
		}
	}
	return leaks, programs
}

// A sampler that sees nothing must be one that could: a program with one canary among
// its arguments and another in its environment is found.
func TestSamplerFinds(t *testing.T) {
	c := &cage{}
	s := newSampler(t)
	h := newHome(t, s.mark)
	argument, variable := c.mint("argument", 1), c.mint("variable", 1)
	argv := helper(t, "hang", h.path("note"), argument)
	cmd := h.command(within(t), argv[0], argv[1:]...)
	cmd.Env = append(cmd.Env, "TOKEN="+variable)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.await(t, argument)
	s.await(t, variable)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	s.end()
	leaks, programs := s.leaks(c)
	if len(leaks) != 2 || programs["helper:hang"] == 0 {
		t.Errorf("found %q in %v, want both canaries", leaks, programs)
	}
}
