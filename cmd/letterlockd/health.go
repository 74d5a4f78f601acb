package main

import (
	"context"
	"errors"
)

// health adds /metrics and /healthz.
func (l *plan) health(ctx context.Context) error {
	if l.conf.Metrics.Listen == "" {
		return nil
	}
	l.meter.Watch("revocations_waiting", "Sessions whose end a Dovecot has not confirmed.", func() float64 {
		waiting := 0
		for _, node := range l.pusher.State() {
			waiting += len(node.Waiting)
		}
		return float64(waiting)
	})
	handler := l.meter.Handler(func(ctx context.Context) error {
		if _, err := l.db.Generation(ctx); err != nil {
			// What is wrong with it stands in the log.
			return errors.New("the database does not answer")
		}
		return nil
	})
	return l.listen(ctx, "metrics", l.conf.Metrics.Listen, serveHTTP(handler))
}
