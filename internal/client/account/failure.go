package account

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// A failure is what the provider answered to the last refresh that failed, kept for
// those who were waiting for the lock meanwhile: 64 programs that start at once on a
// dead grant shall not ask 64 times, one after the other. It holds no secret.
type failure struct {
	At       time.Time `json:"at"`
	Serial   int64     `json:"serial"` // of the grant
	Resource string    `json:"resource"`
	Kind     string    `json:"kind"`

	Endpoint      string        `json:"endpoint"`
	Status        int           `json:"status,omitempty"`
	Code          string        `json:"code,omitempty"`
	Subcode       string        `json:"subcode,omitempty"`
	Numbers       []int         `json:"numbers,omitempty"`
	Description   string        `json:"description,omitempty"`
	URI           string        `json:"uri,omitempty"`
	CorrelationID string        `json:"correlation_id,omitempty"`
	RetryAfter    time.Duration `json:"retry_after,omitempty"`
	Err           string        `json:"err,omitempty"`
}

// Kinds of failure: the three errors of a refresh.
const (
	kindSignIn    = "sign in"
	kindRejected  = "rejected"
	kindTemporary = "temporary"
)

// share keeps fault for those who wait for the lock. Only what the provider or the way
// to it did is theirs too; a caller who gave up has failed for himself.
func (m *Manager) share(ctx context.Context, grant *Grant, resource Resource, fault error) {
	var answer *oauth.Error
	if ctx.Err() != nil || !errors.As(fault, &answer) {
		return
	}
	record, err := json.Marshal(failure{
		At: m.now(), Serial: grant.Serial, Resource: resource.Name, Kind: kindOf(fault),
		Endpoint: answer.Endpoint, Status: answer.Status, Code: cut(answer.Code), Subcode: cut(answer.Subcode),
		Numbers: answer.Numbers, Description: cut(answer.Description), URI: cut(answer.URI),
		CorrelationID: cut(answer.CorrelationID), RetryAfter: answer.RetryAfter, Err: cut(text(answer.Err)),
	})
	if err == nil {
		err = m.Store.SetFailure(grant.Account, record)
	}
	if err != nil {
		m.log().Warn("failure not kept for those who wait", "account", grant.Account, "error", err)
	}
}

// told returns the failure of a refresh of grant that ended after we began to wait for
// the lock; nil when there is none. Whoever comes later asks the provider again, and so
// does everybody when the clock jumps.
func (m *Manager) told(grant *Grant, began time.Time) *failure {
	record, err := m.Store.ReadFailure(grant.Account)
	if err != nil || record == nil {
		return nil
	}
	var f failure
	if json.Unmarshal(record, &f) != nil || f.Serial != grant.Serial || !f.At.After(began) || f.At.After(m.now()) {
		return nil
	}
	return &f
}

// fault makes the error again that the failure was for the process that asked.
func (m *Manager) fault(grant *Grant, f *failure) error {
	answer := &oauth.Error{
		Endpoint: f.Endpoint, Status: f.Status, Code: f.Code, Subcode: f.Subcode, Numbers: f.Numbers,
		Description: f.Description, URI: f.URI, CorrelationID: f.CorrelationID, RetryAfter: f.RetryAfter,
	}
	if f.Err != "" {
		answer.Err = errors.New(f.Err)
	}
	m.log().Info("the provider has just refused another process, not asked again", "account", grant.Account)
	switch f.Kind {
	case kindSignIn:
		return m.signInNeeded(grant, m.interrupted(grant), answer)
	case kindRejected:
		return &Rejected{Account: grant.Account, Provider: grant.provider(), Err: answer}
	}
	return &Temporary{Account: grant.Account, Step: stepRefresh, Err: answer}
}

func kindOf(fault error) string {
	var needed *SignInNeeded
	var rejected *Rejected
	switch {
	case errors.As(fault, &needed):
		return kindSignIn
	case errors.As(fault, &rejected):
		return kindRejected
	}
	return kindTemporary
}

// cut bounds what came from outside: more is not shown to anybody.
func cut(text string) string {
	const limit = 1000
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
