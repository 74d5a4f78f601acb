package probe

import (
	"crypto/tls"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// The outcomes of a step.
const (
	OK      = "ok"
	Failed  = "failed"
	Skipped = "skipped"
)

// The steps of a check.
const (
	StepToken   = "token"
	StepConnect = "connect"
	StepSignIn  = "sign in"
	StepMailbox = "mailbox"
)

// A Report is what a run found out: data, for a table or for JSON.
type Report struct {
	Mailbox   string      `json:"mailbox"`
	Owner     string      `json:"owner,omitempty"`
	Ownership string      `json:"ownership"` // "same", "different" or "unknown"
	Checks    []Check     `json:"checks"`
	Tokens    []TokenNote `json:"tokens,omitempty"`
	// Milliseconds is what the whole run took.
	Milliseconds int64 `json:"ms"`
}

// A Check is one server with one mechanism.
type Check struct {
	Protocol  string   `json:"protocol"`
	Host      string   `json:"host"`
	Port      int      `json:"port"`
	Security  string   `json:"security"`
	User      string   `json:"user"`
	Mechanism string   `json:"mechanism,omitempty"` // empty when it did not come to that
	Offered   []string `json:"offered,omitempty"`
	TLS       *TLS     `json:"tls,omitempty"`
	Steps     []Step   `json:"steps"`
}

// TLS is what was agreed on, and with whom.
type TLS struct {
	Version string    `json:"version"`
	Cipher  string    `json:"cipher"`
	Subject string    `json:"subject"`
	Issuer  string    `json:"issuer"`
	Until   time.Time `json:"valid_until"`
}

// A Step is one thing tried.
type Step struct {
	Name         string   `json:"step"`
	Outcome      string   `json:"outcome"`
	Detail       string   `json:"detail,omitempty"`
	Challenge    string   `json:"challenge,omitempty"` // the server's JSON, decoded
	Temporary    bool     `json:"temporary,omitempty"` // may pass by itself
	Advice       []Advice `json:"advice,omitempty"`
	Milliseconds int64    `json:"ms"`
}

// An Advice is a cause and what to do about it, each one line.
type Advice struct {
	Cause  string `json:"cause"`
	Remedy string `json:"remedy"`
}

// A TokenNote is what its length means for a token.
type TokenNote struct {
	Protocol string `json:"protocol"`
	Length   int    `json:"length"`
	// TooLongFor names programs that cannot take a token of that length themselves;
	// through the tunnel or the proxy they can.
	TooLongFor []string `json:"too_long_for,omitempty"`
}

// OK reports whether every check went through to the mailbox. That the token belongs
// to somebody else is no failure by itself: so it is with a shared mailbox.
func (r Report) OK() bool {
	for _, c := range r.Checks {
		if !c.OK() {
			return false
		}
	}
	return len(r.Checks) > 0
}

// Temporary reports whether all that failed may pass by itself.
func (r Report) Temporary() bool {
	failed := false
	for _, c := range r.Checks {
		for _, step := range c.Steps {
			if step.Outcome == Failed {
				failed = true
				if !step.Temporary {
					return false
				}
			}
		}
	}
	return failed
}

// OK reports whether the check went through to the mailbox.
func (c Check) OK() bool {
	last := c.last()
	return last.Name == StepMailbox && last.Outcome == OK
}

func (c Check) last() Step {
	if len(c.Steps) == 0 {
		return Step{}
	}
	return c.Steps[len(c.Steps)-1]
}

// Header names the columns of Rows.
func Header() []string { return []string{"SERVER", "SECURITY", "MECHANISM", "RESULT", "MS"} }

// Rows are the checks as a table.
func (r Report) Rows() [][]string {
	var rows [][]string
	for _, c := range r.Checks {
		security := c.Security
		if c.TLS != nil {
			security += " (" + c.TLS.Version + ")"
		}
		var took int64
		for _, step := range c.Steps {
			took += step.Milliseconds
		}
		mechanism := c.Mechanism
		if mechanism == "" {
			mechanism = "-"
		}
		rows = append(rows, []string{
			fmt.Sprintf("%s %s:%d", c.Protocol, c.Host, c.Port), security, mechanism, c.result(), strconv.FormatInt(took, 10),
		})
	}
	return rows
}

func (c Check) result() string {
	last := c.last()
	switch last.Outcome {
	case OK:
		return "ok (" + last.Detail + ")"
	case Skipped:
		return "skipped"
	}
	return last.Name + " failed: " + last.Detail
}

// Advice collects all advice, each once, in the order it came up.
func (r Report) Advice() []Advice {
	var all []Advice
	seen := make(map[Advice]bool)
	for _, c := range r.Checks {
		for _, step := range c.Steps {
			for _, a := range step.Advice {
				if !seen[a] {
					seen[a] = true
					all = append(all, a)
				}
			}
		}
	}
	return all
}

// What can be said of the token's owner.
const (
	Same      = "same"
	Different = "different"
	Unknown   = "unknown"
)

// ownership compares the token's owner with the mailbox. An owner without a domain
// (an opaque subject, a user name) says nothing either way.
func ownership(owner, mailbox string) string {
	switch {
	case strings.EqualFold(owner, mailbox) && owner != "":
		return Same
	case !strings.Contains(owner, "@") || !strings.Contains(mailbox, "@"):
		return Unknown
	}
	return Different
}

func describe(state tls.ConnectionState) *TLS {
	t := &TLS{Version: tls.VersionName(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite)}
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		t.Subject, t.Issuer, t.Until = cli.Line(leaf.Subject.String()), cli.Line(leaf.Issuer.String()), leaf.NotAfter
	}
	return t
}
