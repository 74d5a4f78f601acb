package main

import (
	"time"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/probe"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// remedy is the error book's advice on an answer that belongs to no account.
func remedy(answer *oauth.Error) string {
	return diagnose("", answer, 0, 0).Remedy
}

// diagnose asks the book. A provider that it does not know has no rules of its own.
func diagnose(name string, answer *oauth.Error, age, idle time.Duration) provider.Entry {
	known, _ := provider.ByName(name)
	return provider.Diagnose(known, answer, age, idle)
}

// likelyCause tells what probably ended a grant, in lines for a Fault.
func likelyCause(needed *account.SignInNeeded) []string {
	if needed.Cause == nil || needed.Interrupted != nil {
		return nil // an interrupted refresh explains it, and the error tells of it
	}
	return causeAndRemedy(diagnose(needed.Provider, needed.Cause, needed.Age, needed.Idle))
}

// causeAndRemedy are lines for a Fault whose hint is not the remedy.
func causeAndRemedy(entry provider.Entry) []string {
	var lines []string
	if entry.Cause != "" {
		lines = append(lines, "likely cause: "+entry.Cause)
	}
	// The hint says to sign in already.
	if entry.Remedy != "" && entry.Remedy != "sign in again" {
		lines = append(lines, "remedy: "+entry.Remedy)
	}
	return lines
}

// refusedSignIn is the code and the advice for an error that ended a sign-in.
func (s *signIn) refusedSignIn(answer *oauth.Error) (cli.Code, string) {
	name := s.providerName
	if conf, err := s.p.config(); err == nil {
		set(&name, conf.Providers[name].Preset)
	}
	entry := diagnose(name, answer, 0, 0)
	code := cli.NoPerm
	if entry.Kind == provider.BadClient || entry.Kind == provider.Setting {
		code = cli.Config
	}
	switch entry.Code {
	case "AADSTS65001", "AADSTS90008", "AADSTS90093", "AADSTS90094", "AADSTS90095":
		known, _ := provider.ByName(name)
		if page, err := known.AdminConsentURL(s.provider.Tenant, s.client.ID); err == nil {
			return code, "ask an administrator of the organization to consent at " + page + " and sign in again then; letterlock register " + shellWord(s.providerName) + " has a text for that"
		}
	}
	return code, entry.Remedy
}

// errorBook is the provider's book as package probe asks it.
type errorBook struct{}

// Explain looks up what a server said.
func (errorBook) Explain(line string) []probe.Advice {
	var advice []probe.Advice
	for _, entry := range provider.Explain(line) {
		advice = append(advice, probe.Advice{Cause: entry.Code + ": " + entry.Cause, Remedy: entry.Remedy})
	}
	return advice
}
