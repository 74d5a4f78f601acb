package delivery

import (
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A stranger's server that wants a sign-in gets none from us: there is no account to
// sign in with, so mail must not wait for one.
func TestNoSignInToWaitFor(t *testing.T) {
	for _, code := range []string{"530 5.7.0 Must issue a STARTTLS command first", "535 5.7.8 who are you"} {
		ca := lab.RunCA(t)
		f := startFaulty(t, &faulty{stage: "MAIL", fault: code, config: serverTLS(t, ca)})
		w := &world{mx: map[string][]MX{"a.test": {{Host: "mx.a.test"}}}, ips: map[string][]string{"mx.a.test": {ip1}},
			servers: map[string]string{ip1 + ":25": f.listener.Addr().String()}}
		outcomes := carry(t, w.carrier(t, Route{}, nil, nil), envelope("me@us.test", "b@a.test"), hello)
		wantVerdicts(t, outcomes, queue.Refused)
	}
}

// Only a server that says why it refuses a token is believed at once. One that says
// nothing may have lost whom it asks about tokens.
func TestBareRefusalIsInDoubt(t *testing.T) {
	ca := lab.RunCA(t)
	f := startFaulty(t, &faulty{stage: "AUTH", fault: "535 5.7.8 Authentication failed", config: serverTLS(t, ca)})
	source := &tokens{list: []string{testToken, testToken + "-renewed"}}
	outcomes := carry(t, carrier(t, submission(provider.STARTTLS, f.listener.Addr(), ca.Client(), source), nil), envelope("you@try.test", "b@a.test"), hello)
	wantVerdicts(t, outcomes, queue.SignIn)
	if !outcomes[0].Doubt || len(source.refused) != 1 {
		t.Errorf("%+v after %d renewals", outcomes[0], len(source.refused))
	}
	f = startFaulty(t, &faulty{stage: "AUTH", fault: "535 5.7.8 wrong password", config: serverTLS(t, ca)})
	r := submission(provider.STARTTLS, f.listener.Addr(), ca.Client(), nil)
	r.Password = secret.New("hush")
	outcomes = carry(t, carrier(t, r, nil), envelope("you@try.test", "b@a.test"), hello)
	wantVerdicts(t, outcomes, queue.SignIn)
	if outcomes[0].Doubt {
		t.Error("a password refused is a password refused")
	}
}
