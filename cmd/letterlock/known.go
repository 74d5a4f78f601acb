package main

import "github.com/letterlock-mail/letterlock/internal/provider"

func knownProvider(name string) (provider.Provider, bool) { return provider.Provider{}, false }

func knownNames() []string { return nil }

func providerOfDomain(domain string) (string, bool) { return "", false }

func providerOfMX(host string) (string, bool) { return "", false }
