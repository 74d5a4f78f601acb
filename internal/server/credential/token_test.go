package credential_test

import (
	"testing"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/credential"
)

// TestScopesAreTheServers: two rooms that do not import each other use one word each.
func TestScopesAreTheServers(t *testing.T) {
	for ours, theirs := range map[string]string{
		credential.ScopeIMAP: authserver.ScopeIMAP, credential.ScopePOP3: authserver.ScopePOP3, credential.ScopeSMTP: authserver.ScopeSMTP,
		credential.ScopeSendOnly: authserver.ScopeSendOnly, credential.ScopeMail: authserver.ScopeMail,
	} {
		if ours != theirs {
			t.Errorf("%q here is %q at the authorization server", ours, theirs)
		}
	}
}
