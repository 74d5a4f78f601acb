package main

import "github.com/letterlock-mail/letterlock/internal/provider"

func knownProvider(name string) (provider.Provider, bool) { return provider.ByName(name) }

// knownNames lists what --provider takes.
func knownNames() []string {
	var names []string
	for _, p := range provider.All() {
		names = append(names, p.Name)
	}
	return names
}

// signInNames are those of them that can be signed in to.
func signInNames() []string {
	var names []string
	for _, p := range provider.All() {
		if len(p.Resources) > 0 {
			names = append(names, p.Name)
		}
	}
	return names
}
