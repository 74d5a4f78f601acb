package main

import (
	"io"
	"slices"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/discovery"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// Of a server that is not used, because it is in doubt or another one is named, the
// user's name there is not used either.
func TestFoundMailbox(t *testing.T) {
	for _, test := range []struct {
		name  string
		doubt string
		imap  string
		set   config.Account
		want  []string
	}{
		{name: "used", want: []string{"imap", "imap_security", "mailbox"}},
		{name: "in doubt", doubt: "DNS says so"},
		{name: "another by the flag", imap: "mail.example.org"},
		{name: "another in the configuration", set: config.Account{Servers: config.Servers{IMAP: config.Server{Host: "mail.example.org", Port: 993}}}},
		{name: "a mailbox in the configuration", set: config.Account{Mailbox: "office"}, want: []string{"imap", "imap_security"}},
	} {
		s := &signIn{p: &program{term: &cli.Terminal{Out: io.Discard, Err: io.Discard}}, name: "you@example.org", o: loginOptions{imap: test.imap}}
		s.found = &discovery.Result{Servers: map[discovery.Service]discovery.Server{discovery.IMAP: {
			MailServer: provider.MailServer{Host: "imap.example.net", Port: 993, Security: provider.ImplicitTLS},
			Origin:     discovery.Origin{Doubt: test.doubt}, User: "root",
		}}}
		var got []string
		for _, setting := range s.foundServers(&config.Config{Accounts: map[string]config.Account{s.name: test.set}}) {
			got = append(got, setting.Name)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
