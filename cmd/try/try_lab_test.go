//go:build lab

package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestRealServers is the story with Dovecot and, as root, Postfix.
func TestRealServers(t *testing.T) {
	temp := t.TempDir()
	var out bytes.Buffer
	letterlock, letterlockd := programs(t)
	err := Run(t.Context(), Options{Once: true, Letterlock: letterlock, Letterlockd: letterlockd, Servers: "dovecot", Out: &out, Open: noBrowser, Temp: temp})
	if err != nil || !strings.Contains(out.String(), "XOAUTH2 ok, OAUTHBEARER ok (Dovecot 2.") {
		t.Errorf("%v\n%s", err, out.String())
	}
	wantEmpty(t, temp)
}
