//go:build unix

package delivery

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

const childQueue, childServers = "DELIVERY_TEST_QUEUE", "DELIVERY_TEST_SERVERS"

// drainOnce sends what is queued to the domains of servers, "one.test=127.0.0.1:1 ...".
func drainOnce(t *testing.T, folder, servers string) queue.Summary {
	t.Helper()
	q, err := queue.Open(folder, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ips: map[string][]string{}, servers: map[string]string{}}
	for i, one := range strings.Fields(servers) {
		name, address, _ := strings.Cut(one, "=")
		ip := "8.20.3." + string(rune('1'+i))
		w.ips[name], w.servers[ip+":25"] = []string{ip}, address
	}
	sum, err := q.Drain(t.Context(), w.carrier(t, Route{}, nil, nil), queue.DrainOptions{Once: true})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestKilledBetweenDomains kills the process that sends a message to two domains when the
// first has it and the second is at some stage. The first never gets it again; the
// second gets it at the next run, unless it may have it already.
func TestKilledBetweenDomains(t *testing.T) {
	if folder := os.Getenv(childQueue); folder != "" {
		drainOnce(t, folder, os.Getenv(childServers))
		return
	}
	for _, test := range []struct {
		stage string
		state queue.State // of the second recipient, when the next process looks
	}{{"mail", queue.StateQueued}, {"rcpt", queue.StateQueued}, {"data", queue.StateUnknown}} {
		t.Run(test.stage, func(t *testing.T) {
			one, two := startRecorder(t, nil, nil), startRecorder(t, nil, nil)
			reached, over := make(chan struct{}, 10), make(chan struct{})
			two.refuse = func(stage, _ string) error {
				if stage == test.stage {
					reached <- struct{}{}
					<-over
					return smtpError(421, 4, 3, 2) // the client is gone by then
				}
				return nil
			}
			folder := t.TempDir() + "/queue"
			q, err := queue.Open(folder, queue.Options{})
			if err != nil {
				t.Fatal(err)
			}
			id, err := q.Put(t.Context(), envelope("you@try.test", "a@one.test", "b@two.test"), strings.NewReader(hello))
			if err != nil {
				t.Fatal(err)
			}
			servers := "one.test=" + one.listener.Addr().String() + " two.test=" + two.listener.Addr().String()
			child := exec.Command(os.Args[0], "-test.run=^TestKilledBetweenDomains$")
			child.Env = append(os.Environ(), childQueue+"="+folder, childServers+"="+servers)
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			states := func() [2]queue.State {
				e, err := q.Show(id)
				if err != nil {
					t.Fatal(err)
				}
				return [2]queue.State{e.Recipients[0].State, e.Recipients[1].State}
			}
			<-reached
			for deadline := time.Now().Add(patience); states()[0] != queue.StateDelivered; <-time.After(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the first domain's outcome is not on disk while the second is under way")
				}
			}
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = child.Wait() // killed
			close(over)      // the recorder asks under its lock
			two.mu.Lock()
			two.refuse = nil
			two.mu.Unlock()
			if got := states(); got != [2]queue.State{queue.StateDelivered, test.state} {
				t.Fatalf("states %v", got)
			}
			sum := drainOnce(t, folder, servers)
			if delivered := sum.Delivered == 1; delivered != (test.state == queue.StateQueued) || len(one.all()) != 1 {
				t.Errorf("%+v, %d at the first", sum, len(one.all()))
			}
			if test.state == queue.StateQueued && len(two.all()) != 1 {
				t.Errorf("%d at the second", len(two.all()))
			}
		})
	}
}
