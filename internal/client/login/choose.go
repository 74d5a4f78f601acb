package login

import (
	"slices"

	"github.com/letterlock-mail/letterlock/internal/provider"
)

// Surroundings are what Choose looks at.
type Surroundings struct {
	SSH, Display, BrowserSet, Container, Terminal bool
	Last                                          provider.Flow // the one remembered
}

// Choose picks the flow from the surroundings among those the provider allows, and
// says in a few words why. Paste is the browser's grant carried by hand: a provider
// that allows the one allows the other. With nothing for a person among the allowed
// it returns the first of them.
func Choose(around Surroundings, allowed []provider.Flow) (flow provider.Flow, why string) {
	browser := slices.Contains(allowed, provider.FlowBrowser)
	device := slices.Contains(allowed, provider.FlowDevice)
	paste := browser || slices.Contains(allowed, provider.FlowPaste) || len(allowed) == 0
	if !browser && !device && !paste {
		return allowed[0], "the provider allows nothing else"
	}
	reachable, obstacle := around.browserReachable()
	switch last := around.Last; {
	case last == provider.FlowBrowser && browser && (reachable || around.Display && !around.Container),
		last == provider.FlowDevice && device,
		last == provider.FlowPaste && paste:
		return last, "as last time"
	}
	switch {
	case browser && reachable:
		return provider.FlowBrowser, "a browser can be opened here"
	case device:
		return provider.FlowDevice, because(obstacle, "the provider allows nothing else")
	case paste:
		return provider.FlowPaste, because(obstacle, "the provider allows no listener")
	}
	return provider.FlowBrowser, "the provider allows nothing else"
}

// browserReachable reports whether a browser can be started that reaches a listener
// on this computer, and what stands against it.
func (s Surroundings) browserReachable() (ok bool, obstacle string) {
	switch {
	case s.SSH:
		// The browser in front of the person has another loopback.
		return false, "this is an ssh session"
	case s.Container:
		return false, "this is a container"
	case !s.Display && !s.BrowserSet:
		return false, "there is no display"
	}
	return true, ""
}

func because(reason, otherwise string) string {
	if reason == "" {
		return otherwise
	}
	return reason
}
