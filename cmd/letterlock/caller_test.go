package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/config"
)

// Which account sends for whom is decided by this table and nothing that a client says.
func TestWaysOfCallers(t *testing.T) {
	const narrow, wide = "send-only", "full"
	account := func(right string, users ...string) config.Account {
		return config.Account{Login: "x@example.org", Right: right, Users: users}
	}
	nobody := account(narrow)
	nobody.Users = []string{}
	named := map[string]config.Account{
		"all": account(narrow), "wide": account(wide), "alices": account(wide, "alice"), "staff": account(narrow, "@staff"),
		"number": account(narrow, "1002", "@0"), "nobody": nobody,
	}
	alice := caller{uid: 1001, user: "alice", groups: []string{"1001", "alice", "50", "staff"}}
	bob := caller{uid: 1002, user: "bob", groups: []string{"1002", "bob", "50", "staff"}}
	carl := caller{uid: 1003, user: "carl", groups: []string{"50", "staff"}}
	dora := caller{uid: 1004, user: "dora", groups: []string{"1004"}}
	root := caller{uid: 0, user: "root", groups: []string{"0", "root"}}
	unknown := caller{uid: 4711, groups: []string{"4711"}}
	for _, c := range []struct {
		name     string
		who      caller
		asked    string
		standard string // [queue] account
		want     string // the ways, and after = the one that is taken
	}{
		{"by name, though its right is wide", alice, "", "all", "alices=alices"},
		{"by number before by group", bob, "", "", "number=number"},
		{"by group", carl, "", "all", "staff=staff"},
		{"named nowhere: the standard account", dora, "", "wide", "all wide=wide"},
		{"named nowhere, no standard: Sender chooses among the narrow", dora, "", "", "all wide="},
		{"root is a user like others", root, "", "", "number=number"},
		{"a uid without a name", unknown, "", "all", "all wide=all"},
		{"asks for another's", dora, "alices", "all", "="},
		{"asks for his group's", alice, "staff", "", "staff=staff"},
		{"asks for everybody's", alice, "all", "", "all="},
		{"asks for a wide one that names nobody", alice, "wide", "all", "="},
		{"asks for the wide standard", alice, "wide", "wide", "wide=wide"},
		{"asks for nobody's", root, "nobody", "", "="},
		{"asks for none that there is", root, "lost", "", "="},
	} {
		conf := &config.Config{Accounts: named, Queue: config.Queue{Account: c.standard}}
		ways, taken := c.who.ways(conf, c.asked)
		var names []string
		for _, w := range ways {
			names = append(names, w.Account)
		}
		if got := strings.Join(names, " ") + "=" + taken; got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	// A user whose name is empty is not whoever an empty word would name.
	if claim := unknown.claim(config.Account{Users: []string{"@", ""}}); claim != notHis {
		t.Error(fmt.Sprint("an empty word names somebody: ", claim))
	}
}
