package queue

import (
	"container/heap"
	"context"
)

// takeDue moves what is due from the timetable into the lanes.
func (d *drain) takeDue() {
	now := d.q.now()
	for len(d.waiting) > 0 && !d.waiting[0].due.After(now) {
		it := heap.Pop(&d.waiting).(*item)
		it.busy = true
		if it.keys != nil { // load found it due
			d.enqueue(it)
			continue
		}
		if h, err := d.q.open(it.id, false); err == nil {
			h.state.settle()
			it.keys = h.state.keys(&d.options, now)
			h.close()
		}
		d.enqueue(it)
	}
}

// enqueue puts an item into the lane of its next destination.
func (d *drain) enqueue(it *item) {
	key := ""
	if len(it.keys) > 0 {
		key = it.keys[0]
	}
	l := d.lanes[key]
	if l == nil {
		l = &lane{key: key}
		d.lanes[key] = l
	}
	l.tasks = append(l.tasks, it)
	d.offer(l)
}

func (d *drain) offer(l *lane) {
	if !l.listed && len(l.tasks) > 0 && l.running < d.options.PerDestination {
		l.listed = true
		d.free = append(d.free, l)
	}
}

// dispatch starts tasks, a lane after the other, so that a slow destination keeps
// none waiting but its own.
func (d *drain) dispatch(ctx context.Context, results chan<- result) {
	for d.running < d.options.Parallel && len(d.free) > 0 && ctx.Err() == nil {
		l := d.free[0]
		d.free = d.free[1:]
		l.listed = false
		it := l.tasks[0]
		l.tasks = l.tasks[1:]
		l.running++
		d.running++
		d.offer(l)
		go func() {
			r := d.step(ctx, it)
			r.lane = l
			results <- r
		}()
	}
}

// settle takes a worker's result.
func (d *drain) settle(r result) {
	d.running--
	r.lane.running--
	d.offer(r.lane)
	if r.lane.running == 0 && len(r.lane.tasks) == 0 {
		delete(d.lanes, r.lane.key)
	}
	it := r.item
	d.sum.add(it.sum)
	it.sum = Summary{}
	switch {
	case r.again:
		d.enqueue(it)
		return
	case r.remove:
		it.busy = false
		d.drop(it)
		return
	}
	it.busy, it.keys = false, nil
	it.stamp = d.stamp(it.id)
	if r.plan {
		d.plan(it, r.when)
	}
	if it.dirty {
		d.load(it.id)
	}
}
