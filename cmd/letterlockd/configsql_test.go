package main

import (
	"slices"
	"testing"
)

// Which lists of Postfix name our domains, and which of those may name others' too: an empty
// list of recipients there must stay empty.
func TestClassesOf(t *testing.T) {
	own := []string{"example.org", "example.net"}
	for _, c := range []struct {
		virtual, relay, local string
		classes, shared       []string
	}{
		{"example.org example.net", "", "localhost", []string{"virtual"}, nil},
		{"Example.ORG, example.com", "", "", []string{"virtual"}, []string{"virtual"}},
		{"example.org", "example.net hash:/etc/postfix/relay", "", []string{"virtual", "relay"}, []string{"relay"}},
		{"hash:/etc/postfix/domains", "example.com", "example.org, localhost", []string{"local"}, []string{"local"}},
	} {
		classes, shared := classesOf(own, map[string]string{"virtual_mailbox_domains": c.virtual, "relay_domains": c.relay, "mydestination": c.local})
		if !slices.Equal(classes, c.classes) || !slices.Equal(shared, c.shared) {
			t.Errorf("%+v: %q, shared %q", c, classes, shared)
		}
	}
}
