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
		"// Weaker than the gateway: Roundcube 1.6 does no PKCE, does not check ID tokens, and keeps a\n" +
		"// refresh token. What it may do is revoked by its log-out, and on the person's page.\n\n")
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
	b.WriteString(strings.NewReplacer("@revoke@", php(r.Issuer+"/revoke"), "@end@", php(r.Issuer+"/end_session")).Replace(roundcubeHooks))
	return b.String()
}

// roundcubeHooks are what Roundcube 1.6 does not do by itself. A plugin would be a second
// file at a place that each distribution has elsewhere; the hooks are the same.
//
// Roundcube reads the session when a request begins and writes all of it when the request
// ends. A slow one would so write tokens back that another one has renewed since, the next
// renewal would show a refresh token that was spent long ago, and that ends them all here
// (RFC 9700 section 4.14.2).
const roundcubeHooks = `
// Roundcube 1.6 forgets its tokens at the log-out, and they would go on: they are revoked, in
// each browser of that person, and the browser is signed out at letterlockd too. And of two
// requests at once the slower one must not write back tokens that the other has renewed.
if (class_exists('rcube_plugin_api') && !defined('LETTERLOCK_HOOKS')) {
    define('LETTERLOCK_HOOKS', true);
    $hooks = rcube_plugin_api::get_instance();
    $hint = '';
    $hooks->register_hook('oauth_login', static function ($args) {
        if (!empty($args['id_token'])) { // proves at the log-out whose it is
            $_SESSION['letterlock_id'] = rcmail::get_instance()->encrypt($args['id_token']);
        }
    });
    $hooks->register_hook('session_destroy', static function () use (&$hint) {
        $rcmail = rcmail::get_instance();
        if ($rcmail->task !== 'logout' || empty($_SESSION['oauth_token'])) {
            return;
        }
        $hint = (string) $rcmail->decrypt($_SESSION['letterlock_id'] ?? '');
        $token = (string) $rcmail->decrypt($_SESSION['oauth_token']['refresh_token'] ?? '')
            ?: preg_replace('/^Bearer /i', '', (string) $rcmail->decrypt($_SESSION['password'] ?? ''));
        try {
            (new GuzzleHttp\Client(['timeout' => 10, 'verify' => $rcmail->config->get('oauth_verify_peer', true)]))->post(@revoke@, ['form_params' => [
                'client_id' => $rcmail->config->get('oauth_client_id'), 'client_secret' => $rcmail->config->get('oauth_client_secret'), 'token' => $token,
            ]]);
        }
        catch (Exception $e) {
            rcube::raise_error(['code' => 500, 'message' => 'Letterlock: tokens not revoked: ' . $e->getMessage()], true, false);
        }
    });
    $hooks->register_hook('logout_after', static function () use (&$hint) {
        if ($hint) {
            header('Location: ' . @end@ . '?' . http_build_query(['id_token_hint' => $hint]));
            exit;
        }
    });
    $newest = static function () {
        $session = rcmail::get_instance()->session;
        if (empty($_SESSION['oauth_token']) || !$session || $session instanceof rcube_session_php) {
            return; // PHP's own sessions are locked
        }
        $kept = (string) $session->read(session_id());
        list($mine, $_SESSION) = [$_SESSION, []];
        if ($kept !== '') {
            session_decode($kept);
        }
        list($theirs, $_SESSION) = [$_SESSION, $mine];
        if (empty($theirs['oauth_token'])) {
            $session->nowrite = true; // signed out meanwhile: it stays so
            return;
        }
        if (($theirs['oauth_token']['expires'] ?? 0) > $mine['oauth_token']['expires']) {
            $_SESSION['oauth_token'] = $theirs['oauth_token'];
            $_SESSION['password'] = $theirs['password'];
        }
    };
    $hooks->register_hook('startup', static function () use ($newest) {
        if (!empty($_SESSION['oauth_token'])) {
            $id = session_id();
            rcmail::get_instance()->add_shutdown_function(static function () use ($newest, $id) {
                if (session_id() === $id) {
                    $newest();
                }
            });
        }
    });
    foreach (['storage_init', 'smtp_connect', 'managesieve_connect', 'refresh'] as $hook) {
        $hooks->register_hook($hook, static function ($args) use ($newest) {
            if (!empty($_SESSION['oauth_token']) && $_SESSION['oauth_token']['expires'] < time()) {
                $newest(); // another request may have renewed them
                if (isset($args['password'])) {
                    $args['password'] = rcmail::get_instance()->decrypt($_SESSION['password']);
                }
            }
            return $args;
        });
    }
}
`
