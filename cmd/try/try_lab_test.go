//go:build lab

package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// TestRealServers is the story with Dovecot, Roundcube and, as root, Postfix.
func TestRealServers(t *testing.T) {
	temp := t.TempDir()
	var out bytes.Buffer
	letterlock, letterlockd := programs(t)
	err := Run(t.Context(), Options{Once: true, Letterlock: letterlock, Letterlockd: letterlockd, Servers: "dovecot", Out: &out, Open: noBrowser, Temp: temp})
	webmail := regexp.MustCompile(`(?m)^5 .*\n6 Web mail     http://127\.0\.0\.1:\d+  inbox open, no password form\n7 Revoke `)
	if err != nil || !strings.Contains(out.String(), "XOAUTH2 ok, OAUTHBEARER ok (Dovecot 2.") || !webmail.MatchString(out.String()) {
		t.Errorf("%v\n%s", err, out.String())
	}
	wantEmpty(t, temp)
}
