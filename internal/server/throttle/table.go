package throttle

import "math/rand/v2"

// A table is a map with a bound. When it is full a new entry takes the place of the
// lightest of some taken at random: who sprays from a million addresses pushes out
// light entries, mostly their own, and not those that have gathered weight.
type table[K comparable, V any] struct {
	limit  int
	weight func(*V) uint32
	index  map[K]int32
	slots  []slot[K, V]
}

type slot[K comparable, V any] struct {
	key   K
	value V
}

const samples = 8

func newTable[K comparable, V any](limit int, weight func(*V) uint32) *table[K, V] {
	return &table[K, V]{limit: limit, weight: weight, index: map[K]int32{}}
}

// find returns an entry, nil if there is none. It may be used until the next change.
func (t *table[K, V]) find(key K) *V {
	if i, ok := t.index[key]; ok {
		return &t.slots[i].value
	}
	return nil
}

// get finds an entry or makes one.
func (t *table[K, V]) get(key K) *V {
	if value := t.find(key); value != nil {
		return value
	}
	if len(t.slots) < t.limit {
		t.index[key] = int32(len(t.slots))
		t.slots = append(t.slots, slot[K, V]{key: key})
		return &t.slots[len(t.slots)-1].value
	}
	at := rand.IntN(len(t.slots))
	lowest := t.weight(&t.slots[at].value)
	for range samples - 1 {
		i := rand.IntN(len(t.slots))
		if w := t.weight(&t.slots[i].value); w < lowest {
			at, lowest = i, w
		}
	}
	delete(t.index, t.slots[at].key)
	t.index[key] = int32(at)
	t.slots[at] = slot[K, V]{key: key}
	return &t.slots[at].value
}

func (t *table[K, V]) remove(key K) {
	i, ok := t.index[key]
	if !ok {
		return
	}
	last := len(t.slots) - 1
	t.slots[i] = t.slots[last]
	t.index[t.slots[i].key] = i
	t.slots[last] = slot[K, V]{}
	t.slots = t.slots[:last]
	delete(t.index, key)
}

func (t *table[K, V]) len() int { return len(t.slots) }

// byAge is the weight of entries that are times: the oldest is the lightest.
func byAge(at *uint32) uint32 { return *at }
