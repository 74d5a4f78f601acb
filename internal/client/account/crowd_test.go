package account

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

const crowd = 64

// 64 at once on an expired grant at a provider that ends the grant when it sees a
// refresh token twice: one request and 64 times the same good answer, for tokens that
// live an hour, shorter than anybody wants, or for nobody knows how long.
func TestCrowdOfGoroutines(t *testing.T) {
	for _, lifetime := range []int{3600, 290, -1} {
		t.Run(fmt.Sprint("lifetime ", lifetime), func(t *testing.T) {
			provider, m, _ := crowdProvider(t, lifetime)
			// All have seen the expired token before the first has the lock.
			var ready sync.WaitGroup
			ready.Add(crowd)
			m.Store = &gate{Store: m.Store, ready: &ready}
			var group sync.WaitGroup
			tokens := make([]string, crowd)
			for i := range crowd {
				group.Go(func() {
					access, err := m.Token(t.Context(), testName, Want{})
					if err != nil {
						t.Errorf("caller %d: %v", i, err)
					}
					tokens[i] = access.Token.Reveal()
				})
			}
			group.Wait()
			checkCrowd(t, provider, tokens)
		})
	}
}

func TestCrowdOfProcesses(t *testing.T) {
	// The short ones are good for more than a minute, which is for the slowest of 64.
	for _, lifetime := range []int{3600, 290} {
		t.Run(fmt.Sprint("lifetime ", lifetime), func(t *testing.T) {
			provider, _, folder := crowdProvider(t, lifetime)
			hold, start, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			children := make([]*childProcess, crowd)
			for i := range children {
				children[i] = startChild(t, folder, "", hold)
			}
			_ = hold.Close()
			began := time.Now()
			_ = start.Close() // all of them go
			tokens := make([]string, crowd)
			for i, process := range children {
				done := process.finish()["done"]
				if done.Error != "" {
					t.Errorf("process %d: %s", i, done.Error)
				}
				tokens[i] = done.Token
			}
			t.Logf("%d processes answered after %v", crowd, time.Since(began).Round(time.Millisecond))
			checkCrowd(t, provider, tokens)
		})
	}
}

func crowdProvider(t *testing.T, lifetime int) (*rotator, *Manager, string) {
	t.Helper()
	provider := newRotator(t)
	provider.lifetime = lifetime
	m, folder := newSealed(t)
	refresh, _, _ := provider.state()
	mustSave(t, m, testGrant(provider.URL, refresh, time.Now()))
	return provider, m, folder
}

func checkCrowd(t *testing.T, provider *rotator, tokens []string) {
	t.Helper()
	if _, requests, _ := provider.state(); requests != 1 {
		t.Errorf("%d requests", requests)
	}
	for i, token := range tokens {
		if token == "" || token != tokens[0] {
			t.Errorf("caller %d got %q, the first %q", i, token, tokens[0])
		}
	}
}

// gate lets nobody have the lock before everybody wants it.
type gate struct {
	Store
	ready *sync.WaitGroup
}

func (g *gate) Lock(ctx context.Context, name string) (func(), error) {
	g.ready.Done()
	g.ready.Wait()
	return g.Store.Lock(ctx, name)
}
