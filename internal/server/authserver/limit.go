package authserver

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// What a Throttle counts apart.
const (
	ThrottleToken    = "token"    // what was refused at the endpoints for programs
	ThrottleDevice   = "device"   // requests that are kept until somebody decides
	ThrottleRegister = "register" // registrations, and their ends
)

// A Throttle slows floods, by the network address they come from. It is never asked about
// a person: nobody can be shut out of their mail by what others do.
type Throttle interface {
	// Refuse reports whether an address has done something too often.
	Refuse(ctx context.Context, what string, from netip.Addr) bool
	// Count counts one.
	Count(ctx context.Context, what string, from netip.Addr)
}

// throttled answers "later" to a flood. Registrations and device requests count when they
// come, since each costs; at the others only what is refused counts, for a gateway or a
// web mail asks for a whole house.
func (s *Server) throttled(what string, next http.HandlerFunc) http.HandlerFunc {
	if s.Throttle == nil {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) {
		from := s.remoteAddr(r)
		if s.Throttle.Refuse(r.Context(), what, from) {
			s.Log.Warn("too many requests", "of", what, "from", from)
			w.Header().Set("Retry-After", "60")
			// An error that no client takes for "your token is bad".
			writeError(w, &oauthError{http.StatusTooManyRequests, "temporarily_unavailable", "too many requests"})
			return
		}
		if what != ThrottleToken {
			s.Throttle.Count(r.Context(), what, from)
		}
		next(w, r)
	}
}

// count counts a refusal.
func (s *Server) count(r *http.Request, what string) {
	if s.Throttle != nil {
		s.Throttle.Count(r.Context(), what, s.remoteAddr(r))
	}
}

// remoteAddr is the network address that asks; invalid when it is not known.
func (s *Server) remoteAddr(r *http.Request) netip.Addr {
	if s.Remote != nil {
		return s.Remote(r)
	}
	pair, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return pair.Addr().Unmap()
}

// remote is the same as text, for pages and logs.
func (s *Server) remote(r *http.Request) string {
	if addr := s.remoteAddr(r); addr.IsValid() {
		return addr.String()
	}
	return "an unknown place"
}

// together makes one transaction of what do asks the stores with its context: a change and its
// line of the audit trail. do may be called more than once.
func (s *Server) together(ctx context.Context, do func(ctx context.Context) error) error {
	if s.Trail == nil {
		return do(ctx)
	}
	return s.Trail.Together(ctx, do)
}

// note writes into the audit trail, in the transaction that does what it tells.
func (s *Server) note(ctx context.Context, e identity.Event) error {
	if s.Trail == nil {
		return nil
	}
	e.At = s.Now()
	if err := s.Trail.AddEvent(ctx, e); err != nil {
		return fmt.Errorf("write audit trail: %w", err)
	}
	return nil
}
