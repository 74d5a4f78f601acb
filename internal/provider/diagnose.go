package provider

import (
	"fmt"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

const (
	day   = 24 * time.Hour
	slack = day / 2 // how far a provider's day may be from ours
)

// Diagnose chooses the likeliest explanation of an error that a token endpoint gave.
// grantAge is the time since the person signed in, idle the time since the grant last
// worked. invalid_grant carries no reason; the two tell which rule most likely fired.
func Diagnose(p Provider, err *oauth.Error, grantAge, idle time.Duration) Entry {
	if err == nil {
		return Entry{}
	}
	if err.Temporary() && err.Code == "" {
		return passing(err)
	}
	for _, number := range err.Numbers {
		if entry, ok := p.choose(fmt.Sprintf("AADSTS%d", number)); ok {
			return entry
		}
	}
	for _, text := range []string{err.Description, err.Subcode} {
		if entry, ok := p.choose(text); ok {
			return entry
		}
	}
	entry, known := p.choose(err.Code)
	if !known {
		entry = Entry{
			Code: err.Code, Meaning: "an error that the book does not have", Kind: Fault,
			Cause: "see the provider's text", Remedy: "search for the code; if it stays, report it with letterlock report",
		}
	}
	if err.Code == "invalid_grant" {
		p.blame(&entry, grantAge, idle)
	}
	return entry
}

func passing(err *oauth.Error) Entry {
	code := "no answer"
	if err.Status != 0 {
		code = fmt.Sprintf("HTTP %d", err.Status)
	}
	return Entry{
		Code: code, Kind: Retry, Meaning: "the token endpoint gave no usable answer",
		Cause: "network, proxy or provider trouble", Remedy: "try again later; the grant is unharmed",
	}
}

// choose looks text up, preferring this provider's own explanations and leaving out
// those of others, but for Microsoft's numbers: they mean one thing, under whatever
// name somebody configured it.
func (p Provider) choose(text string) (Entry, bool) {
	best, found := Entry{}, false
	for _, entry := range Explain(text) {
		switch {
		case entry.Provider == p.Family() && entry.Provider != "", strings.HasPrefix(entry.Code, "AADSTS"):
			return entry, true
		case entry.Provider == "" && !found:
			best, found = entry, true
		}
	}
	return best, found
}

// blame names the lifetime rule that fits the age of the grant.
func (p Provider) blame(entry *Entry, grantAge, idle time.Duration) {
	rule, ok := p.fired(grantAge, idle)
	if !ok {
		return
	}
	entry.Cause = fmt.Sprintf("%s; the last sign-in was %s ago, the last use %s", rule.Rule, days(grantAge), days(idle))
	if p.Family() == "google" && rule.When != "" {
		entry.Remedy = "publish the app in the console (Google Auth Platform, Audience, Publish app; no verification is needed for own use), then sign in again: else it ends in a week once more"
	}
}

// fired finds the rule whose moment lies between the last use, when the grant was still
// good, and now. Rules of disuse come first: they need no circumstance.
func (p Provider) fired(grantAge, idle time.Duration) (Lifetime, bool) {
	for _, rule := range p.Lifetimes {
		if rule.Idle && rule.Days > 0 && idle >= rule.span()-slack {
			return rule, true
		}
	}
	lastGood := grantAge - idle
	for _, rule := range p.Lifetimes {
		if !rule.Idle && rule.Days > 0 && grantAge >= rule.span()-slack && lastGood <= rule.span()+slack {
			return rule, true
		}
	}
	return Lifetime{}, false
}

func (l Lifetime) span() time.Duration { return time.Duration(l.Days) * day }

func days(span time.Duration) string {
	if count := int((span + slack) / day); count != 1 {
		return fmt.Sprintf("%d days", count)
	}
	return "1 day"
}

// Forecast returns when the next sign-in will be forced by a known rule, and the rule.
// Rules under a circumstance count until their moment has passed: a grant that lived
// on is not under it. The zero time means that no rule is known.
func Forecast(p Provider, signedIn, lastRefresh, now time.Time) (when time.Time, rule string) {
	used := signedIn
	if lastRefresh.After(used) {
		used = lastRefresh
	}
	for _, l := range p.Lifetimes {
		if l.Days == 0 {
			continue
		}
		from, text := signedIn, l.Rule
		if l.Idle {
			from = used
		} else if p.Rotates && l.When == "" {
			from = used // each refresh brings a new token with a life of its own
		}
		end := from.Add(l.span())
		if l.When != "" {
			if now.After(end.Add(slack)) {
				continue
			}
			text += ", if " + l.When
		}
		if when.IsZero() || end.Before(when) {
			when, rule = end, text
		}
	}
	return when, rule
}
