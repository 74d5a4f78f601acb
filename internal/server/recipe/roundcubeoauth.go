package recipe

import (
	"fmt"
	"strings"
)

// RoundcubeOAuth are the facts about a Roundcube that is a program of our authorization
// server itself, without a gateway.
type RoundcubeOAuth struct {
	Name         string // on its button
	Issuer       string // public_url
	PublicURL    string // Roundcube's own
	ClientID     string
	ClientSecret string
	Sieve        bool
}

// Redirect is where answers for it go, byte for byte.
func (r RoundcubeOAuth) Redirect() string {
	return strings.TrimSuffix(r.PublicURL, "/") + "/index.php/login/oauth"
}

// Config is the end of Roundcube's config.inc.php, as a file of its own. Run as printed
// with Roundcube 1.6.5 of Debian 12.
func (r RoundcubeOAuth) Config() string {
	var b strings.Builder
	b.WriteString("<?php\n// Letterlock: Roundcube 1.6 signs people in at letterlockd and keeps their tokens itself. At the end of config.inc.php:\n" +
		"//   include(__DIR__ . '/letterlock.inc.php');\n" +
		"// This file holds a secret: chown root:www-data, chmod 0640. The web server must hand on what\n" +
		"// stands behind index.php (PATH_INFO), for answers come to\n" +
		fmt.Sprintf("//   %s\n", r.Redirect()) +
		"// Weaker than the gateway: Roundcube 1.6 does no PKCE, does not check ID tokens, keeps a refresh\n" +
		"// token, and its log-out ends nothing here. What it may do is revoked on the person's page.\n\n")
	scope := "openid email offline_access imap smtp"
	if r.Sieve {
		scope += " sieve"
	}
	for _, line := range []struct{ name, value string }{
		{"oauth_provider", "generic"}, {"oauth_provider_name", r.Name}, {"oauth_client_id", r.ClientID}, {"oauth_client_secret", r.ClientSecret},
		{"oauth_auth_uri", r.Issuer + "/authorize"}, {"oauth_token_uri", r.Issuer + "/token"}, {"oauth_identity_uri", r.Issuer + "/userinfo"},
		{"oauth_scope", scope},
	} {
		fmt.Fprintf(&b, "$config['%s'] = %s;\n", line.name, php(line.value))
	}
	b.WriteString("$config['oauth_identity_fields'] = ['email'];\n$config['oauth_auth_parameters'] = [];\n$config['oauth_verify_peer'] = true;\n" +
		"$config['oauth_login_redirect'] = true; // no form: straight to the sign-in\n\n" +
		"$config['smtp_user'] = '%u';\n$config['smtp_pass'] = '%p';\n$config['smtp_debug'] = false;\n$config['imap_debug'] = false;\n")
	return b.String()
}
