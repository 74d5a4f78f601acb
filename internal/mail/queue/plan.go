package queue

import (
	"container/heap"
	"errors"
	"os"
	"time"
)

// scan reads the folder and takes up what is new or was changed by others.
func (d *drain) scan() (found bool, err error) {
	ids, err := d.q.ids()
	if err != nil {
		return false, err
	}
	there := make(map[ID]bool, len(ids))
	for _, id := range ids {
		there[id] = true
		it := d.known[id]
		if it == nil {
			d.load(id)
			found = true
			continue
		}
		if it.busy || it.stamp == 0 {
			continue
		}
		if info, err := os.Lstat(d.q.path(id)); err == nil && info.ModTime().UnixNano() != it.stamp {
			d.load(id)
		}
	}
	for id, it := range d.known {
		if !there[id] && !it.busy {
			d.drop(it)
		}
	}
	return found, nil
}

// changed is called for an entry that somebody put or changed.
func (d *drain) changed(id ID) {
	if it := d.known[id]; it != nil && it.busy {
		it.dirty = true
		return
	}
	d.load(id)
}

// load reads an entry and plans it.
func (d *drain) load(id ID) {
	it := d.known[id]
	if it == nil {
		it = &item{id: id, place: -1}
		d.known[id] = it
	}
	it.dirty = false
	h, err := d.q.open(id, false)
	if errors.Is(err, ErrNotFound) {
		d.drop(it)
		return
	}
	if err != nil {
		d.log.Error("queue file cannot be used", "id", id, "error", err)
		d.unplan(it)
		return
	}
	defer h.close()
	it.stamp = d.stamp(id)
	h.state.settle()
	when, ok := h.state.due(&d.options)
	if !ok {
		d.unplan(it)
		return
	}
	it.keys = nil
	if now := d.q.now(); !when.After(now) {
		it.keys = h.state.keys(&d.options, now)
	}
	d.plan(it, when)
}

// stamp tells whether a file was changed since.
func (d *drain) stamp(id ID) int64 {
	info, err := os.Lstat(d.q.path(id))
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

func (d *drain) plan(it *item, when time.Time) {
	it.due = when
	if it.place >= 0 {
		heap.Fix(&d.waiting, it.place)
		return
	}
	heap.Push(&d.waiting, it)
}

func (d *drain) unplan(it *item) {
	if it.place >= 0 {
		heap.Remove(&d.waiting, it.place)
	}
}

func (d *drain) drop(it *item) {
	d.unplan(it)
	delete(d.known, it.id)
}

// A timetable is a heap of items by due time.
type timetable []*item

func (t timetable) Len() int           { return len(t) }
func (t timetable) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timetable) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}

// Push is for heap.
func (t *timetable) Push(x any) {
	it := x.(*item)
	it.place = len(*t)
	*t = append(*t, it)
}

// Pop is for heap.
func (t *timetable) Pop() any {
	last := len(*t) - 1
	it := (*t)[last]
	it.place = -1
	(*t)[last] = nil
	*t = (*t)[:last]
	return it
}
