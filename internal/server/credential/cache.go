package credential

import (
	"container/list"
	"sync"
)

// A cache keeps the entries used last, a fixed number of them.
type cache[K comparable, V any] struct {
	mu    sync.Mutex
	limit int
	byKey map[K]*list.Element
	order *list.List // front: used last
}

type slot[K comparable, V any] struct {
	key   K
	value V
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{limit: limit, byKey: map[K]*list.Element{}, order: list.New()}
}

func (c *cache[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.byKey[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(element)
	return element.Value.(*slot[K, V]).value, true
}

func (c *cache[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.byKey[key]; ok {
		element.Value.(*slot[K, V]).value = value
		c.order.MoveToFront(element)
		return
	}
	if c.order.Len() >= c.limit {
		oldest := c.order.Back()
		delete(c.byKey, oldest.Value.(*slot[K, V]).key)
		c.order.Remove(oldest)
	}
	c.byKey[key] = c.order.PushFront(&slot[K, V]{key, value})
}

func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.byKey[key]; ok {
		delete(c.byKey, key)
		c.order.Remove(element)
	}
}

// keys are the keys used last, those first.
func (c *cache[K, V]) keys(most int) []K {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]K, 0, min(most, len(c.byKey)))
	for element := c.order.Front(); element != nil && len(keys) < most; element = element.Next() {
		keys = append(keys, element.Value.(*slot[K, V]).key)
	}
	return keys
}

// peek is get without being a use.
func (c *cache[K, V]) peek(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.byKey[key]
	if !ok {
		return value, false
	}
	return element.Value.(*slot[K, V]).value, true
}
