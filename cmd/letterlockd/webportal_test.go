package main

import (
	"testing"

	"github.com/letterlock-mail/letterlock/internal/config"
)

// One name of a server in DNS, in both documents and on the pages, however it was typed.
func TestMailServers(t *testing.T) {
	conf := &config.Daemon{Domains: []string{"example.org"}, Portal: config.Portal{IMAP: "IMAP.Example.org.:993", Submission: "smtp.example.org:587"}}
	conf.Web.PublicURL = "https://mail.example.org"
	servers, err := mailServers(conf)
	if err != nil || servers.IMAP.Host != "imap.example.org" || servers.IMAP.StartTLS || servers.SMTP.Port != 587 || !servers.SMTP.StartTLS {
		t.Errorf("%v %+v", err, servers)
	}
	facts, _, err := dnsFacts(conf)
	if err != nil || facts.IMAP.Host != servers.IMAP.Host || facts.Digest != "" || facts.NoPACC == "" {
		t.Errorf("%v %+v", err, facts)
	}
}
