package delivery

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// A provider sees no more requests at a time than connections are wanted, however many
// messages the queue hands over.
func TestAPIRequestsAtATime(t *testing.T) {
	fake := gmailFake()
	var mu sync.Mutex
	now, most := 0, 0
	var once sync.Once
	third, over := make(chan struct{}), make(chan struct{})
	c, _ := apiCarrier(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now++
		if most = max(most, now); now == 3 {
			once.Do(func() { close(third) })
		}
		mu.Unlock()
		<-over
		fake.ServeHTTP(w, r)
		mu.Lock()
		now--
		mu.Unlock()
	}), Route{Way: Gmail})
	c.pool.limit = 2
	key := "api\x00" + envelope("").Account
	inside := func() bool { // all twelve are at the door, and two with the provider
		mu.Lock()
		two := now >= 2
		mu.Unlock()
		c.pool.mu.Lock()
		defer c.pool.mu.Unlock()
		at := c.pool.places[key]
		return two && at != nil && at.users == 12
	}
	var all sync.WaitGroup
	all.Go(func() {
		defer close(over)
		for deadline := time.Now().Add(patience); !inside(); <-time.After(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Error("two of twelve never came in together")
				return
			}
		}
		select {
		case <-third:
		case <-time.After(300 * time.Millisecond): // in which a third would come
		}
	})
	for range 12 {
		all.Go(func() {
			if got := carry(t, c, envelope("you@try.test", "a@x.test"), "To: a@x.test\r\n\r\nx\r\n"); got[0].Verdict != queue.Delivered {
				t.Errorf("%+v", got)
			}
		})
	}
	all.Wait()
	if most != 2 {
		t.Errorf("%d requests at a time", most)
	}
}
