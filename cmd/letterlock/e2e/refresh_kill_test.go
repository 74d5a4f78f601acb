//go:build lab

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/lab"
)

// A gate stands before the provider and lets what has come through to its end, also
// when whoever asked is dead by then, as a provider across the net would.
type gate struct {
	*httptest.Server
	mu   sync.Mutex
	open int // connections
	idle *sync.Cond
}

func newGate(t *testing.T, next http.Handler) *gate {
	g := &gate{}
	g.idle = sync.NewCond(&g.mu)
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/settled" {
			return
		}
		// Without a cancel of its own httputil.ReverseProxy would ask w whether the
		// client has gone.
		ctx, cancel := context.WithCancel(context.WithoutCancel(req.Context()))
		defer cancel()
		next.ServeHTTP(w, req.WithContext(ctx))
	}))
	g.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		g.mu.Lock()
		defer g.mu.Unlock()
		switch state {
		case http.StateNew:
			g.open++
		case http.StateClosed, http.StateHijacked:
			g.open--
			g.idle.Broadcast()
		}
	}
	g.Start()
	t.Cleanup(g.Close)
	return g
}

// settle returns when the requests of processes that are dead by now have been dealt
// with. Connections are accepted in order, so ours comes after theirs.
func (g *gate) settle(t *testing.T) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(g.URL + "/settled")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.open > 0 {
		g.idle.Wait()
	}
}

// A killing is a sweep of SIGKILLs over `letterlock token` while it refreshes.
type killing struct {
	*rotation
	gate *gate

	lost, unsent, unused, stored int // by what the kill found
}

func newKilling(t *testing.T) *killing {
	k := &killing{}
	k.rotation = newRotation(t, rotationOptions{front: func(fault *lab.HTTPFault) string {
		k.gate = newGate(t, fault)
		return k.gate.URL
	}})
	return k
}

// victim is a process that refreshes, and what was true before.
type victim struct {
	*exec.Cmd
	began               time.Time
	grant               *account.Grant
	requests, refreshes int
}

func (k *killing) start() *victim {
	k.t.Helper()
	v := &victim{grant: k.expire(), requests: k.fault.Requests("/token"), refreshes: k.refreshes()}
	v.Cmd = k.home.command(within(k.t), "letterlock", "token", k.who.Email)
	v.began = time.Now()
	if err := v.Start(); err != nil {
		k.t.Fatal(err)
	}
	return v
}

// kill ends the process now and returns when it is gone.
func (v *victim) kill() {
	_ = v.Process.Signal(syscall.SIGKILL)
	_ = v.Wait()
}

// verdict checks what must hold after any kill, and mends what is lost by a sign-in.
func (k *killing) verdict(v *victim) {
	k.t.Helper()
	k.gate.settle(k.t)
	grant := k.grant() // never torn
	sent, used := k.fault.Requests("/token")-v.requests, k.refreshes()-v.refreshes
	stored := !grant.Refresh.Equal(v.grant.Refresh)
	lost := used > 0 && !stored
	switch {
	case lost:
		k.lost++
	case stored:
		k.stored++
	case sent > 0:
		k.unused++
	default:
		k.unsent++
	}
	if sent > 1 || used > sent || stored && used == 0 {
		k.t.Errorf("%d requests, %d used a refresh token up, new one stored: %t", sent, used, stored)
	}
	next := k.token()
	if !lost {
		if next.code != 0 || len(next.stdout) < 20 {
			k.t.Errorf("sent %d, used %d, stored %t, and the next run: %v", sent, used, stored, next)
		}
		return
	}
	if next.code != 77 || next.stdout != "" || !k.namesCause(v, next.stderr) || !strings.Contains(next.stderr, "hint: letterlock login "+k.who.Email) {
		k.t.Errorf("the next run on a lost grant: %v", next)
	}
	k.login()
	if after := k.token(); after.code != 0 {
		k.t.Errorf("after a new sign-in: %v", after)
	}
}

// namesCause finds the process that was killed, and when it began to refresh.
func (k *killing) namesCause(v *victim, said string) bool {
	by := fmt.Sprintf(" by process %d was never stored", v.Process.Pid)
	before, _, found := strings.Cut(said, by)
	_, when, named := strings.Cut(before, "; the answer to a refresh begun at ")
	began, err := time.Parse(time.RFC3339, when)
	return found && named && err == nil && !began.Before(v.began.Truncate(time.Second)) && !began.After(time.Now())
}

// hooked starts a victim and calls act in the provider's handler, once, when its
// request is there (before) or its answer is ready and nobody has seen it (after).
func (k *killing) hooked(before bool, act func(*victim)) *victim {
	k.t.Helper()
	hook := &k.after
	if before {
		hook = &k.before
	}
	started, acted := make(chan *victim, 1), make(chan struct{})
	once := sync.OnceFunc(func() {
		act(<-started)
		close(acted)
	})
	hook.Store(&once)
	v := k.start()
	started <- v
	<-acted
	hook.Store(nil)
	return v
}

// Kills at the two moments between which the grant hangs in the air: the request is at
// the provider, which then acts on it; and its answer is ready and nobody has seen it.
func TestRefreshKilledAtTheProvider(t *testing.T) {
	k := newKilling(t)
	for _, before := range []bool{true, false, true, false} {
		k.verdict(k.hooked(before, (*victim).kill))
	}
	if k.lost != 4 {
		t.Errorf("%d of 4 grants lost: these were no such kills", k.lost)
	}
}

// Kills at random moments from the start of the process until its request is at the
// provider, and from the provider's use of the refresh token until its end.
func TestRefreshKilledAtRandom(t *testing.T) {
	k := newKilling(t)
	random := rand.New(rand.NewPCG(2, 11))
	lead, tail, window := k.measure()
	// What was measured may not be what holds later, on a machine with other things to do:
	// each span is steered so that four of five kills are on one side, one on the other.
	early, late := lead, tail
	steer := func(span time.Duration, many bool, more, less float64) time.Duration {
		if many {
			less = more
		}
		return max(time.Duration(float64(span)*less), time.Millisecond)
	}
	missed := func() bool { return k.lost == 0 || k.stored == 0 || k.unsent == 0 }
	kills := 0
	for n := range 10 * refreshKills {
		if n >= refreshKills/2 && !missed() {
			break
		}
		kills += 2
		unsent := k.unsent
		v := k.start()
		<-time.After(time.Duration(random.Int64N(int64(early))))
		v.kill()
		k.verdict(v)
		early = steer(early, k.unsent > unsent, 1.1, 0.7)

		lost := k.lost
		v = k.hooked(false, func(*victim) {})
		<-time.After(time.Duration(random.Int64N(int64(late))))
		v.kill()
		k.verdict(v)
		late = steer(late, k.lost > lost, 1.5, 0.9)
	}
	if missed() {
		t.Errorf("%d lost, %d stored, %d not sent: the sweep has missed a part", k.lost, k.stored, k.unsent)
	}
	t.Logf("%d kills: before the request %d, provider had not used the token %d, lost in the window %d, after our fsync %d",
		kills, k.unsent, k.unused, k.lost, k.stored)
	t.Logf("`letterlock token` takes %v until the provider is asked and %v from its answer on; window from the answer to the grant on disk: median %.2f ms, longest %.2f ms (%d refreshes)",
		lead, tail, ms(middle(window)), ms(slices.Max(window)), len(window))
}

// A signal that asks for an end does not throw away an answer that is under way: the
// refresh is seen through and stored before the process ends.
func TestRefreshEndedPolitely(t *testing.T) {
	k := newKilling(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		for _, before := range []bool{true, false} {
			v := k.hooked(before, func(v *victim) { _ = v.Process.Signal(signal) })
			err := v.Wait()
			k.gate.settle(t)
			if grant := k.grant(); grant.Refresh.Equal(v.grant.Refresh) || k.refreshes() != v.refreshes+1 {
				t.Errorf("%v, before the provider acts: %t: the answer was not stored (%v)", signal, before, err)
			}
			if next := k.token(); next.code != 0 || k.refreshes() != v.refreshes+1 {
				t.Errorf("%v: the next run: %v", signal, next)
			}
		}
	}
}

// measure lets refreshes run to their end: how long the process takes until the
// provider is asked, and from its answer on; and the windows, from the answer to the
// line that tells that the grant is stored (its mark is cleared by then, too).
func (k *killing) measure() (lead, tail time.Duration, window []time.Duration) {
	k.t.Helper()
	var leads, tails []time.Duration
	var asked, answered time.Time
	before, after := func() { asked = time.Now() }, func() { answered = time.Now() }
	k.before.Store(&before)
	k.after.Store(&after)
	defer k.before.Store(nil)
	defer k.after.Store(nil)
	for range 15 {
		k.expire()
		cmd := k.home.command(within(k.t), "letterlock", "token", k.who.Email, "--verbose")
		stderr, err := cmd.StderrPipe()
		if err != nil {
			k.t.Fatal(err)
		}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			k.t.Fatal(err)
		}
		said := bufio.NewReader(stderr)
		for {
			line, err := said.ReadString('\n')
			if err != nil {
				k.t.Fatalf("it never told that the grant is stored: %v", err)
			}
			if strings.Contains(line, "token refreshed") {
				break
			}
		}
		stored := time.Now()
		_, _ = io.Copy(io.Discard, said)
		if err := cmd.Wait(); err != nil {
			k.t.Fatal(err)
		}
		leads, tails, window = append(leads, asked.Sub(began)), append(tails, time.Since(answered)), append(window, stored.Sub(answered))
	}
	return middle(leads), middle(tails), window
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
