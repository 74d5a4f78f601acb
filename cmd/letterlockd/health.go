package main

import (
	"context"
	"net/http"
)

// health adds /healthz: 200 while the database answers, else 503 with one word.
func (l *plan) health(ctx context.Context) error {
	if l.conf.Metrics.Listen == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if _, err := l.db.Generation(r.Context()); err != nil {
			http.Error(w, "database", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return l.listen(ctx, "metrics", l.conf.Metrics.Listen, serveHTTP(mux))
}
