// Package meter counts for the monitoring: sign-ins and how they ended, how long checks
// take, and what stands between a revocation and its effect. It is asked by /metrics in
// Prometheus's text form.
//
//	mailauth -> Meter.Door -> the door that judges
//	main     -> Meter.Watch: what only others know, asked when somebody looks
//	         -> Meter.Handler: /metrics, /healthz
//
// Labels are words of ours: never a user, an address or a secret, and never as many as
// somebody who guesses likes to make.
package meter

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Door judges what somebody presented, as mailauth's does.
type Door interface {
	Password(context.Context, credential.Presented) (credential.Verdict, error)
	Token(context.Context, credential.Presented) (credential.Verdict, error)
}

// A Meter holds the counts of one process.
type Meter struct {
	registry *prometheus.Registry
	signins  *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	now      func() time.Time
}

// New makes a Meter.
func New(now func() time.Time) *Meter {
	m := &Meter{
		registry: prometheus.NewRegistry(),
		now:      now,
		signins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "letterlock_signins_total", Help: "Sign-ins at mail servers, by how they ended: ok, refused (with the reason), later.",
		}, []string{"protocol", "kind", "result", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "letterlock_check_seconds", Help: "Time from a question to its answer, throttling included. Postfix gives up after 10.",
			Buckets: []float64{0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}, []string{"kind"}),
	}
	m.registry.MustRegister(m.signins, m.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Watch adds a gauge whose value is asked for whenever somebody looks.
func (m *Meter) Watch(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "letterlock_" + name, Help: help}, value))
}

// Door returns the door with a meter on it.
func (m *Meter) Door(d Door) Door { return &metered{m, d} }

type metered struct {
	m    *Meter
	door Door
}

// Password implements Door.
func (d *metered) Password(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	begun := d.m.now()
	v, err := d.door.Password(ctx, p)
	d.m.note("password", p.Protocol, begun, err)
	return v, err
}

// Token implements Door.
func (d *metered) Token(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	begun := d.m.now()
	v, err := d.door.Token(ctx, p)
	d.m.note("token", p.Protocol, begun, err)
	return v, err
}

func (m *Meter) note(kind string, protocol identity.Protocol, begun time.Time, err error) {
	result, reason := "ok", ""
	if refused, no := errors.AsType[*credential.Refused](err); no {
		result, reason = "refused", string(refused.Reason)
	} else if err != nil {
		result = "later"
		switch {
		case errors.Is(err, credential.ErrBusy):
			reason = "busy"
		case errors.Is(err, credential.ErrUnavailable):
			reason = "unavailable"
		}
	}
	m.signins.WithLabelValues(string(protocol), kind, result, reason).Inc()
	m.seconds.WithLabelValues(kind).Observe(m.now().Sub(begun).Seconds())
}

// Handler serves /metrics, and /healthz: 200 while healthy returns nil, else 503 with
// its words, which are for those who can reach this address.
func (m *Meter) Handler(healthy func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := healthy(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}
