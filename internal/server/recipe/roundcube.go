package recipe

import (
	"fmt"
	"strings"
)

// Roundcube are the facts about one Roundcube behind a gateway of letterlockd.
type Roundcube struct {
	PublicURL string // what people type
	Proxy     string // where requests come from, as Roundcube sees it: "127.0.0.1"
}

// Config is the end of Roundcube's config.inc.php, as a file of its own. Run as printed
// with Roundcube 1.6.5 of Debian 12.
func (r Roundcube) Config() string {
	var b strings.Builder
	b.WriteString("<?php\n// Letterlock: Roundcube 1.6 behind the gateway of letterlockd. At the end of config.inc.php:\n" +
		"//   include(__DIR__ . '/letterlock.inc.php');\n// Without that line everything is as it was. Nobody else than the gateway may reach this\n" +
		"// Roundcube: it believes what it is told.\n\n" +
		"// The gateway says with each request who it is, and hands over a token for minutes.\n" +
		"$config['plugins'] = array_values(array_unique(array_merge((array) ($config['plugins'] ?? []), ['http_authentication'])));\n" +
		"$config['logout_url'] = '/__letterlock/out';\n\n" +
		"// The token is shown to the mail servers. A password would not even be understood there.\n" +
		"$config['imap_auth_type'] = 'XOAUTH2';\n$config['smtp_auth_type'] = 'XOAUTH2';\n" +
		"$config['smtp_user'] = '%u';\n$config['smtp_pass'] = '%p';\n" +
		"$config['username_domain'] = '';\n$config['auto_create_user'] = true;\n\n" +
		"// Nobody signs in by a form, whatever the server in front let through (nginx sees no bodies).\n" +
		"if (isset($_POST['_pass'])) {\n    http_response_code(403);\n    exit('Nobody signs in with a password here.');\n}\n\n" +
		"// With nginx in front, which binds no cookies: Roundcube's own have another name in each session,\n" +
		"// so that one that was left behind or planted opens nothing.\n" +
		"if (!empty($_SERVER['LETTERLOCK_SESSION'])) {\n    $config['session_name'] = 'roundcube_sessid_' . $_SERVER['LETTERLOCK_SESSION'];\n" +
		"    $config['session_auth_name'] = 'roundcube_sessauth_' . $_SERVER['LETTERLOCK_SESSION'];\n}\n\n" +
		"// Never on with tokens: it writes them into a file.\n$config['smtp_debug'] = false;\n$config['imap_debug'] = false;\n")
	if strings.HasPrefix(r.PublicURL, "https://") {
		b.WriteString("\n// People come by TLS; the way from the gateway has none.\n$config['use_https'] = true;\n")
	}
	if r.Proxy != "" {
		fmt.Fprintf(&b, "\n// The log has the person's address, not the gateway's.\n$config['proxy_whitelist'] = [%s];\n", php(r.Proxy))
	}
	return b.String()
}

// php writes a word for PHP.
func php(word string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(word) + "'"
}
