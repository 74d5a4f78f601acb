package account

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A sweep kills processes in the middle of a refresh at a provider that ends the
// grant on reuse, and looks at what is left.
type sweep struct {
	provider *rotator
	manager  *Manager
	folder   string

	stranded, survived int
	windows, writes    []time.Duration
}

func newSweep(t *testing.T) *sweep {
	m, folder := newSealed(t)
	return &sweep{provider: newRotator(t), manager: m, folder: folder}
}

// begin makes a fresh grant whose access token has expired, and a process that is
// about to ask for a token.
func (s *sweep) begin(t *testing.T, killAt string) *childProcess {
	t.Helper()
	mustSave(t, s.manager, testGrant(s.provider.URL, s.provider.signIn(), time.Now()))
	return startChild(t, s.folder, killAt, nil)
}

// verdict checks what must hold after any kill. It returns whether the grant is lost.
func (s *sweep) verdict(t *testing.T, process *childProcess, seen map[string]childEvent) bool {
	t.Helper()
	s.provider.settle(t)
	grant, err := s.manager.Grant(t.Context(), testName)
	if err != nil {
		t.Fatalf("the grant file is torn: %v", err)
	}
	current, requests, consumed := s.provider.state()
	lost := grant.Refresh.Reveal() != current
	committed, isCommitted := seen["committed"]
	if requests > 1 {
		t.Errorf("%d requests", requests)
	}
	if lost && (isCommitted || consumed.IsZero()) {
		t.Errorf("grant lost, consumed at %v, steps %v", consumed, seen)
	}
	if isCommitted {
		s.windows = append(s.windows, time.Unix(0, committed.At).Sub(consumed))
		s.writes = append(s.writes, time.Duration(committed.At-seen["answered"].At))
	}
	access, err := s.manager.Token(t.Context(), testName, Want{})
	var needed *SignInNeeded
	switch {
	case !lost && (err != nil || access.Token.IsZero()):
		t.Errorf("the next run: %v, steps %v", err, seen)
	case lost && !errors.As(err, &needed):
		t.Errorf("the next run on a lost grant: %v", err)
	case lost && (needed.Interrupted == nil || needed.Interrupted.PID != process.cmd.Process.Pid):
		t.Errorf("the next run does not name the cause: %v", err)
	}
	if lost {
		s.stranded++
	} else {
		s.survived++
	}
	return lost
}

// A kill at each step of the rule.
func TestKillAtEachStep(t *testing.T) {
	s := newSweep(t)
	steps := []struct {
		name string
		lost bool
	}{
		{"locked", false}, {"reserved", false}, {"marked", false}, {"sending", false},
		{"answered", true}, // the provider has rotated, we have stored nothing
		{"committed", false}, {"cleared", false}, {"unlocked", false},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			process := s.begin(t, step.name)
			_ = process.start.Close()
			seen := process.finish()
			if _, ok := seen[step.name]; !ok || seen["done"].Step != "" {
				t.Fatalf("not killed at its step: %v", seen)
			}
			if lost := s.verdict(t, process, seen); lost != step.lost {
				t.Errorf("grant lost: %t", lost)
			}
		})
	}
}

// Kills at random moments, half of them from the start of the call, half from the
// moment at which the provider has used up the refresh token, where it hurts.
func TestKillAtRandom(t *testing.T) {
	s := newSweep(t)
	random := rand.New(rand.NewPCG(2026, 11))
	whole := s.duration(t)
	// What was measured may not hold later, on a machine with other things to do: each
	// span is steered so that kills come before its end and after it.
	early, late := whole*5/4, whole*3/4
	missed := func() bool { return s.stranded == 0 || s.survived == 0 }
	for n := range 10 * kills {
		if n >= kills/2 && !missed() {
			break
		}
		process := s.begin(t, "")
		_ = process.start.Close()
		seen, _ := s.killAfter(t, process, time.Duration(random.Int64N(int64(early))))
		early = steer(early, seen["done"].Step == "")

		process = s.begin(t, "")
		used := make(chan struct{})
		s.provider.setOnUse(func() { close(used) })
		_ = process.start.Close()
		<-used
		s.provider.setOnUse(nil)
		_, lost := s.killAfter(t, process, time.Duration(random.Int64N(int64(late))))
		late = steer(late, lost)
	}
	if missed() {
		t.Errorf("%d lost, %d kept: the sweep has missed one side", s.stranded, s.survived)
	}
	s.report(t, whole)
}

// steer is the next span to kill in, when the last kill came before what it is about, or
// after.
func steer(span time.Duration, before bool) time.Duration {
	if before {
		return span * 5 / 4
	}
	return max(span*4/5, time.Millisecond)
}

// killAfter kills process when the time is over and judges what is left.
func (s *sweep) killAfter(t *testing.T, process *childProcess, after time.Duration) (seen map[string]childEvent, lost bool) {
	t.Helper()
	<-time.After(after)
	_ = process.cmd.Process.Kill()
	seen = process.finish()
	return seen, s.verdict(t, process, seen)
}

// duration is how long a refresh takes that nobody disturbs.
func (s *sweep) duration(t *testing.T) time.Duration {
	t.Helper()
	var all []time.Duration
	for range 9 {
		process := s.begin(t, "")
		_ = process.start.Close()
		seen := process.finish()
		if s.verdict(t, process, seen) {
			t.Fatal("lost without a kill")
		}
		all = append(all, time.Duration(seen["done"].At-seen["begun"].At))
	}
	return median(all)
}

func (s *sweep) report(t *testing.T, whole time.Duration) {
	t.Helper()
	t.Logf("%d grants lost in the window, %d kept; a refresh takes %v", s.stranded, s.survived, whole)
	t.Logf("window from the provider's use of the token to our fsync: median %.2f ms, longest %.2f ms, of which writing %.2f and %.2f ms (%d refreshes)",
		ms(median(s.windows)), ms(slices.Max(s.windows)), ms(median(s.writes)), ms(slices.Max(s.writes)), len(s.windows))
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
