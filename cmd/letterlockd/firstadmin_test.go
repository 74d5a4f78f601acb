package main

import (
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Each start of each instance prints a link of its own; of those that are used at once, one
// makes an administrator.
func TestFirstAdminOfMany(t *testing.T) {
	h := newHall(t, "")
	l := &plan{conf: h.p.conf, db: h.p.db, now: h.p.now, log: slog.New(slog.DiscardHandler)}
	var visitors []*visitor
	for range 8 {
		var errs strings.Builder
		h.p.term.Err, h.p.term.ErrTTY, h.p.term.Interactive = &errs, true, true
		if err := l.firstAdmin(t.Context(), h.p); err != nil {
			t.Fatal(err)
		}
		v := h.visitor()
		visitors = append(visitors, v.get(regexp.MustCompile(`http://\S+`).FindString(errs.String())).want(200, "/signin/first"))
	}
	var all sync.WaitGroup
	for i, v := range visitors {
		all.Go(func() {
			res, err := v.client.PostForm(h.public+"/signin/first", url.Values{"address": {fmt.Sprintf("boss%d@example.org", i)}})
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
		})
	}
	all.Wait()
	if admins, err := h.p.db.Admins(t.Context()); err != nil || len(admins) != 1 {
		t.Errorf("%d first administrators, %v", len(admins), err)
	}
}
