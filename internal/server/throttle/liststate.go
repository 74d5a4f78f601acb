package throttle

import (
	"sync"
	"time"
)

// A ListState is how the list of a source stands.
type ListState struct {
	Name    string
	Entries int
	Faults  int       // lines that were left out, as far as they were counted
	Read    time.Time // when it was read last; zero: never, and nothing of it holds
	Error   string    // of the last try; what was read before holds on
}

// states are those of all sources, by name.
type states struct {
	mu sync.Mutex
	by map[string]ListState
}

// Lists tells how the sources stand, in the order in which they were given. A list that was
// never read refuses nobody, which is to be seen somewhere.
func (t *Throttle) Lists() []ListState {
	t.states.mu.Lock()
	defer t.states.mu.Unlock()
	var all []ListState
	for _, s := range t.o.Sources {
		state := t.states.by[s.Name]
		state.Name = s.Name
		all = append(all, state)
	}
	return all
}

// noted keeps what came of reading a list; list is nil when err is not.
func (t *Throttle) noted(name string, list *List, err error) {
	t.states.mu.Lock()
	defer t.states.mu.Unlock()
	if t.states.by == nil {
		t.states.by = map[string]ListState{}
	}
	state := t.states.by[name]
	if err != nil {
		state.Error = err.Error()
	} else {
		state = ListState{Entries: list.Entries, Faults: len(list.Faults), Read: t.o.Now()}
	}
	t.states.by[name] = state
}
