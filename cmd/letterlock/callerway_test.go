package main

import (
	"testing"

	"github.com/letterlock-mail/letterlock/internal/config"
)

// An account without a sign-in reads no mailbox: who is named nowhere may ask for it
// by name as for any other that can only send.
func TestWayWithoutSignInByName(t *testing.T) {
	conf := &config.Config{Accounts: map[string]config.Account{"mx": {Way: "direct"}, "wide": {}}}
	who := caller{uid: 1001, user: "alice"}
	if ways, _ := who.ways(conf, "mx"); len(ways) != 1 {
		t.Errorf("direct: %+v", ways)
	}
	if ways, _ := who.ways(conf, "wide"); len(ways) != 0 {
		t.Errorf("an account that can read: %+v", ways)
	}
}
