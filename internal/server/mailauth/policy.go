package mailauth

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/throttle"
)

// A Throttle counts guesses; a *throttle.Throttle is one. It never fails: what it cannot
// know it lets pass, because the password is still to be checked.
type Throttle interface {
	// Ask comes before a password is checked, and again after a good one.
	Ask(context.Context, throttle.Attempt) throttle.Decision
	// Tell is how the attempt ended.
	Tell(ctx context.Context, a throttle.Attempt, success bool)
	// Release is for an attempt that was no guess, or that nobody could judge.
	Release(throttle.Attempt)
}

// PolicyOptions are what the policy server needs.
type PolicyOptions struct {
	Throttle Throttle
	// Servers are the mail servers that may ask, by HTTP Basic in
	// auth_policy_server_api_header.
	Servers []identity.ResourceServer
	// Counted reports whether the Door is shown the passwords of this protocol, and so
	// counts the wrong ones: they must not be counted again. That one was right elsewhere
	// it cannot know, and is told in any case. nil: none are.
	Counted func(identity.Protocol) bool
	Log     *slog.Logger
}

// Policy is Dovecot's auth policy server (the weakforced contract). It puts the
// passwords that others check (PAM, LDAP, Kerberos) under the one throttle.
type Policy struct{ o PolicyOptions }

// NewPolicy returns the handler for auth_policy_server_url.
func NewPolicy(o PolicyOptions) *Policy { return &Policy{o: o} }

// maxWait bounds a delay: Dovecot holds the client's connection for that long.
const maxWait = 15 * time.Second

// policyRequest is what Dovecot sends; attributes we do not use are ignored.
type policyRequest struct {
	Login    string `json:"login"`
	Hash     string `json:"pwhash"`
	Remote   string `json:"remote"`
	Protocol string `json:"protocol"`
	Success  bool   `json:"success"`
	Rejected bool   `json:"policy_reject"`
	FailType string `json:"fail_type"` // 2.4: internal, credentials, account, expired, disabled, policy
}

// policyAnswer: -1 refuses, 0 goes on, N waits for N seconds.
type policyAnswer struct {
	Status  int    `json:"status"`
	Message string `json:"msg"`
}

// parsePolicy reads a policy request. Its fingerprint is 12 bits of a salted hash of name
// and password: enough to see that the same wrong password comes again, too little to
// guess it.
func parsePolicy(body []byte) (policyRequest, throttle.Attempt, error) {
	var in policyRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return in, throttle.Attempt{}, errBad
	}
	if len(in.Login) > 1024 || len(in.Hash) > 128 {
		return in, throttle.Attempt{}, errBad
	}
	protocol, _ := protocolOf(in.Protocol)
	return in, throttle.Attempt{
		Remote: parseAddr(in.Remote), Account: in.Login, Protocol: protocol, Fingerprint: in.Hash,
	}, nil
}

// ServeHTTP answers command=allow and command=report.
func (p *Policy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, ok := caller(p.o.Servers, r, "", ""); !ok {
		p.o.Log.Warn("mail server not known", "path", r.URL.Path, "from", r.RemoteAddr, "name", name)
		w.Header().Set("WWW-Authenticate", `Basic realm="letterlock mail servers"`)
		writeJSON(w, http.StatusUnauthorized, failure{"invalid_client"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil || r.Method != http.MethodPost {
		writeJSON(w, http.StatusBadRequest, failure{"invalid_request"})
		return
	}
	in, attempt, err := parsePolicy(body)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, failure{"invalid_request"})
		return
	}
	switch r.URL.Query().Get("command") {
	case "allow":
		advice := p.o.Throttle.Ask(r.Context(), attempt)
		writeJSON(w, http.StatusOK, answerTo(advice))
	case "report":
		if p.counts(in, attempt) {
			p.o.Throttle.Tell(r.Context(), attempt, in.Success)
		} else if !in.Rejected { // for one that it refused it set nothing aside
			p.o.Throttle.Release(attempt)
		}
		writeJSON(w, http.StatusOK, policyAnswer{Message: "noted"})
	default:
		writeJSON(w, http.StatusBadRequest, failure{"invalid_request"})
	}
}

// counts reports whether an attempt tells anything about guessing: one that the policy
// refused or an outage ended does not, and one that the Door judged was counted there.
func (p *Policy) counts(in policyRequest, attempt throttle.Attempt) bool {
	switch {
	case in.Success:
		return true
	case p.o.Counted != nil && p.o.Counted(attempt.Protocol):
		return false
	}
	return !in.Rejected && in.FailType != "internal" && in.FailType != "policy"
}

func answerTo(advice throttle.Decision) policyAnswer {
	switch {
	case advice.Refuse:
		return policyAnswer{Status: -1, Message: "too many attempts"}
	case advice.Wait > 0:
		// Rounded up: zero would mean no delay at all.
		seconds := (min(advice.Wait, maxWait) + time.Second - 1) / time.Second
		return policyAnswer{Status: int(seconds), Message: "slow down"}
	}
	return policyAnswer{Message: "ok"}
}
