package throttle

import "time"

// A counter counts in the present span and remembers the last one. total is what the
// shared counter said, our own included; unsent is what it does not know of yet.
type counter struct {
	number      uint32
	now, before uint32
	total       uint32
	unsent      uint32
	// Tries that nobody has told the end of, by rounds of some seconds.
	round, pending, pendingBefore uint32
}

// counters is a bounded table of them.
type counters struct{ *table[key, counter] }

// pendingFor is for how many seconds, twice at most, a place stays set aside for an
// attempt that nobody tells the end of.
const pendingFor = 15

func newCounters(limit int) counters {
	return counters{newTable[key](limit, func(c *counter) uint32 { return c.sum() + c.before + c.pending })}
}

// roll brings a counter into the present span.
func (c *counter) roll(number uint32) {
	switch {
	case number <= c.number:
		return // also when the clock was set back: that forgives nothing
	case number == c.number+1:
		c.before = c.sum()
	default:
		c.before = 0
	}
	c.number, c.now, c.total, c.unsent = number, 0, 0, 0
}

// sum is the best that is known about the present span.
func (c *counter) sum() uint32 { return max(c.now, c.total+c.unsent) }

func (c counters) add(k key, w window, n int) {
	entry := c.get(k)
	entry.roll(w.number)
	entry.now += uint32(n)
	entry.unsent += uint32(n)
}

// level is how far a counter has risen, this span and what is left of the last, and how
// much is being tried just now.
func (c counters) level(k key, w window, now time.Time) (level, pending float64) {
	entry := c.find(k)
	if entry == nil {
		return 0, 0
	}
	entry.roll(w.number)
	entry.age(now)
	return float64(entry.sum()) + float64(entry.before)*(1-w.gone), float64(entry.pending + entry.pendingBefore)
}

// age lets go of what was set aside and never told about.
func (c *counter) age(now time.Time) {
	switch round := uint32(now.Unix() / pendingFor); round {
	case c.round:
	case c.round + 1:
		c.pendingBefore, c.pending, c.round = c.pending, 0, round
	default:
		c.pendingBefore, c.pending, c.round = 0, 0, round
	}
}

func (c counters) reserve(k key, n int, now time.Time) {
	entry := c.get(k)
	entry.age(now)
	entry.pending = min(entry.pending+uint32(n), 1<<30)
}

func (c counters) giveBack(k key, n int, now time.Time) {
	entry := c.find(k)
	if entry == nil {
		return
	}
	entry.age(now)
	first := min(uint32(n), entry.pendingBefore)
	entry.pendingBefore -= first
	entry.pending -= min(uint32(n)-first, entry.pending)
	if entry.pending+entry.pendingBefore+entry.sum()+entry.before == 0 {
		c.remove(k) // a good sign-in leaves nothing behind
	}
}
