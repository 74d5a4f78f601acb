package main

import (
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/probe"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// remedy is the error book's advice on a provider's answer.
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
	entry := diagnose(needed.Provider, needed.Cause, needed.Age, needed.Idle)
	var lines []string
	if entry.Cause != "" {
		lines = append(lines, "likely cause: "+entry.Cause)
	}
	if entry.Remedy != "" && entry.Kind != provider.SignIn {
		lines = append(lines, "remedy: "+entry.Remedy)
	}
	return lines
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
