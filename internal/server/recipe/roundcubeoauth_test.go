package recipe

import (
	"strings"
	"testing"
)

// What is printed for Roundcube's own OAuth holds its secret once, quoted for PHP, and hooks
// that speak to the issuer.
func TestRoundcubeOAuthConfig(t *testing.T) {
	text := RoundcubeOAuth{Name: "Ann's", Issuer: "https://id.example.org", PublicURL: "https://webmail.example.org/", ClientID: "webmail", ClientSecret: `a'b\c`, Sieve: true}.Config()
	for _, want := range []string{
		"$config['oauth_provider_name'] = 'Ann\\'s';", `$config['oauth_client_secret'] = 'a\'b\\c';`, "imap smtp sieve';",
		"//   https://webmail.example.org/index.php/login/oauth\n", "->post('https://id.example.org/revoke',", "'Location: ' . 'https://id.example.org/end_session' .",
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%d times %s in\n%s", strings.Count(text, want), want, text)
		}
	}
	if strings.Contains(text, "@revoke@") || strings.Contains(text, "@end@") || strings.Count(text, "'a\\'b") != 1 {
		t.Error("a place is not filled in, or the secret stands there twice")
	}
}
