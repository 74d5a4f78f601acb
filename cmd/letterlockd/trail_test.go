package main

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/tally"
)

// A shut door refuses everybody for one reason.
type shut credential.Reason

func (s shut) Password(context.Context, credential.Presented) (credential.Verdict, error) {
	return credential.Verdict{}, &credential.Refused{Reason: credential.Reason(s)}
}

func (s shut) Token(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	return s.Password(ctx, p)
}

// Where others are asked after us, a password of theirs is nobody's refusal; everything else
// is, and where nobody is asked after us that too.
func TestTrailAmongOthers(t *testing.T) {
	for _, c := range []struct {
		among     bool
		mechanism string
		reason    credential.Reason
		want      bool
	}{
		{true, sasl.Plain, credential.ReasonForm, false}, {true, sasl.Plain, credential.ReasonWrong, true},
		{true, sasl.OAuthBearer, credential.ReasonForm, true}, {false, sasl.Plain, credential.ReasonForm, true},
	} {
		var refusals []string
		tr := &trail{door: shut(c.reason), among: c.among, log: slog.New(slog.DiscardHandler), refused: func(r tally.Refusal) { refusals = append(refusals, r.Reason) }}
		_, _ = tr.Password(t.Context(), credential.Presented{User: "ann@example.org", Mechanism: c.mechanism})
		if slices.Contains(refusals, string(c.reason)) != c.want {
			t.Errorf("%+v: %q", c, refusals)
		}
	}
}
