package recipe

import (
	"fmt"
	"net/url"
	"strings"
)

// Apache are the facts about an Apache that signs people in at an identity provider and
// passes the provider's own token on to Roundcube.
type Apache struct {
	Issuer, PublicURL    string
	ClientID, SecretFile string
	Scope, Resource      string
	NameClaim            string
	Root, FPM, CacheDir  string
	Renew                string // where on this machine tokens are renewed: "127.0.0.1:8089"
	RenewBefore          int    // seconds before a token's end
}

// Site is a virtual host. Run as printed with Apache 2.4 and mod_auth_openidc 2.4.12 of
// Debian 12, over http on loopback.
func (a Apache) Site() string {
	u, err := url.Parse(a.PublicURL)
	if err != nil {
		return ""
	}
	port, tls := u.Port(), ""
	if u.Scheme == "https" {
		tls = fmt.Sprintf("  SSLEngine on\n  SSLCertificateFile /etc/letsencrypt/live/%[1]s/fullchain.pem\n  SSLCertificateKeyFile /etc/letsencrypt/live/%[1]s/privkey.pem\n", u.Hostname())
	}
	switch {
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	extra := ""
	if a.Resource != "" {
		// At both endpoints: without it at the token endpoint the token is one for userinfo.
		extra = fmt.Sprintf("  OIDCAuthRequestParams resource=%[1]s\n  OIDCProviderTokenEndpointParams resource=%[1]s\n", url.QueryEscape(a.Resource))
	}
	if strings.Contains(" "+a.Scope+" ", " offline_access ") {
		// OpenID Connect Core section 11: without it no refresh token comes.
		if extra == "" {
			extra = "  OIDCAuthRequestParams prompt=consent\n"
		} else {
			extra = strings.Replace(extra, "OIDCAuthRequestParams ", "OIDCAuthRequestParams prompt=consent&", 1)
		}
	}
	public := strings.TrimSuffix(a.PublicURL, "/")
	// Both hosts are one program to the provider, and read the same sessions.
	openid := fmt.Sprintf(`  OIDCProviderMetadataURL %[1]s/.well-known/openid-configuration
  OIDCClientID %[2]s
  # One line, for root alone (chmod 600): OIDCClientSecret THE-SECRET
  Include %[3]s
  OIDCCryptoPassphrase "exec:/usr/bin/head -c 2000 %[3]s"
  OIDCRedirectURI %[4]s/__oidc
  OIDCDefaultLoggedOutURL %[4]s/__oidc/out
  OIDCScope "%[5]s"
  OIDCResponseType code
  OIDCPKCEMethod S256
%[6]s  # Sessions live at the server: a cookie would carry the tokens.
  OIDCSessionType server-cache
  OIDCCacheType file
  OIDCCacheDir %[7]s
  OIDCCookieSameSite On
  OIDCRemoteUserClaim %[8]s
  OIDCPassRefreshToken Off
  OIDCPassClaimsAs environment
  OIDCHTTPTimeoutLong 10
`, strings.TrimSuffix(a.Issuer, "/"), a.ClientID, a.SecretFile, public, a.Scope, extra, a.CacheDir, a.NameClaim)
	return fmt.Sprintf(apacheSite, port, u.Hostname(), tls, a.Root, openid, a.FPM, a.Renew, a.RenewBefore, public, a.CacheDir)
}

const apacheSite = `# Letterlock: Roundcube behind mod_auth_openidc. People sign in at the provider, and its own
# token goes to the mail servers; letterlockd takes it for the audience and the client of
# [issuer.NAME] only. Needs: a2enmod auth_openidc proxy_fcgi setenvif headers rewrite ssl, and
#   install -d -m 700 -o www-data %[10]s
# At the provider this client needs
#   redirect URI              %[9]s/__oidc
#   post-logout redirect URI  %[9]s/__oidc/out
#   back-channel logout URI   %[9]s/__oidc?logout=backchannel
<VirtualHost *:%[1]s>
  ServerName %[2]s
%[3]s  DocumentRoot %[4]s
  LimitRequestBody 134217728

%[5]s
  # What the browser says here is never believed; mod_auth_openidc takes out OIDC_ headers.
  RequestHeader unset Authorization early
  RequestHeader unset Proxy early
  # Where Roundcube asks for a fresh token, and how many seconds before the end of the old.
  SetEnvIf Request_Method ^ LETTERLOCK_RENEW=%[7]s LETTERLOCK_RENEW_BEFORE=%[8]d
  <Location />
    AuthType openid-connect
    Require valid-user
    # Only what a person opens can become a sign-in page.
    OIDCUnAuthAction 401 "%%{HTTP:X-Requested-With} == 'XMLHttpRequest' || %%{REQUEST_METHOD} != 'GET'"
  </Location>
  # Roundcube's own requests get its own answer: the sign-in has ended, and a draft is kept.
  <LocationMatch "^/(index\.php)?$">
    OIDCUnAuthAction pass "%%{HTTP:X-Requested-With} == 'XMLHttpRequest' || %%{REQUEST_METHOD} != 'GET'"
  </LocationMatch>
  <LocationMatch "^/(installer|bin|SQL|config|logs|temp|vendor)(/|$)">
    Require all denied
  </LocationMatch>
  <Location "/__oidc/out">
    Require all granted
    ErrorDocument 404 "<!DOCTYPE html><html lang=en><title>Signed out</title><h1>You are signed out</h1><p><a href=/>Sign in again</a></p></html>"
  </Location>
  RewriteEngine On
  # A picture in a mail, or a page beside this one, signs nobody out.
  RewriteCond %%{QUERY_STRING} (^|&)logout=
  RewriteCond %%{HTTP:Sec-Fetch-Dest} !^(document)?$ [OR]
  RewriteCond %%{HTTP:Sec-Fetch-Site} ^(cross|same)-site$
  RewriteRule ^/__oidc$ - [F]
  RewriteCond %%{QUERY_STRING} (^|&)_(task|action)=login(&|$)
  RewriteRule ^ /? [R=302,L]

  <Directory %[4]s>
    Options FollowSymLinks
    AllowOverride None
    Require valid-user
    DirectoryIndex index.php
  </Directory>
  <FilesMatch "\.php$">
    SetHandler "proxy:unix:%[6]s|fcgi://localhost"
  </FilesMatch>
</VirtualHost>

# Here a token is renewed, for Roundcube on this machine, which asks with the browser's cookie
# and one request at a time. Were it renewed above, then six requests at once would each use
# the one refresh token, and providers take the second use for a theft and end the sign-in.
Listen %[7]s
<VirtualHost %[7]s>
  ServerName %[2]s

%[5]s  <Location />
    Require all denied
  </Location>
  <Location "/__oidc">
    AuthType openid-connect
    Require valid-user
  </Location>
  <Location "/__oidc/token">
    AuthType openid-connect
    Require valid-user
    OIDCUnAuthAction 401 true
    OIDCRefreshAccessTokenBeforeExpiry %[8]d
    Header always set Letterlock-Token "%%{OIDC_access_token_expires}e %%{OIDC_access_token}e" "expr=-n env('OIDC_access_token')"
    RewriteEngine On
    RewriteRule ^ - [R=204,L]
  </Location>
</VirtualHost>
`

// RoundcubeApache is Roundcube behind such an Apache.
type RoundcubeApache struct{}

// Config is the end of Roundcube's config.inc.php, as a file of its own: the plugin
// http_authentication looks for a name and a password, and finds those that the lines
// above it make of what mod_auth_openidc put into the environment. Only the server can
// put anything there: what browsers send is in HTTP_ variables.
func (RoundcubeApache) Config() string { return roundcubeApache }

const roundcubeApache = `<?php
// Letterlock: Roundcube 1.6 behind Apache's mod_auth_openidc, with the provider's own token. At
// the end of config.inc.php:
//   include(__DIR__ . '/letterlock.inc.php');
// Without that line everything is as it was.

// Says that the sign-in has ended, so that what was being written is kept, and ends the request.
$letterlock_over = static function ($why) {
    header('Cache-Control: no-store');
    if (strtolower($_SERVER['HTTP_X_REQUESTED_WITH'] ?? '') === 'xmlhttprequest') {
        header('Content-Type: application/json');
        echo json_encode(['action' => (string) filter_input(INPUT_GET, '_action'), 'exec' =>
            "this.display_message('Your sign-in has ended.', 'error');\nthis.session_error('./');\n"]);
        exit;
    }
    http_response_code(401);
    header('Content-Type: text/html; charset=UTF-8');
    echo '<!DOCTYPE html><html lang="en"><title>Signed out</title><p>', $why, ' <a href="./" target="_top">Sign in again</a></p><script>',
        "if (parent !== window && parent.rcmail) { parent.rcmail.iframe_loaded(); parent.rcmail.display_message('Your sign-in has ended.', 'error'); parent.rcmail.session_error('./'); }",
        '</script></html>';
    exit;
};

// The browser's session with Apache, as its cookie names it.
$letterlock_cookie = preg_match('/(?:^|;\s*)(mod_auth_openidc_session=[^;\s]+)/', $_SERVER['HTTP_COOKIE'] ?? '', $letterlock_found) ? $letterlock_found[1] : '';

// Asks Apache on this machine about that session: [status, head of the answer].
$letterlock_ask = static function ($path) use ($letterlock_cookie) {
    $apache = @stream_socket_client('tcp://' . ($_SERVER['LETTERLOCK_RENEW'] ?? ''), $code, $text, 5);
    if (!$apache) {
        return [0, ''];
    }
    stream_set_timeout($apache, 15);
    fwrite($apache, "GET $path HTTP/1.0\r\nHost: " . ($_SERVER['HTTP_HOST'] ?? 'localhost') . "\r\nCookie: $letterlock_cookie\r\nAccept: */*\r\n\r\n");
    $head = explode("\r\n\r\n", (string) stream_get_contents($apache, 131072))[0];
    fclose($apache);
    return [(int) substr($head, 9, 3), $head];
};

// Renews a token that is about to end: one request after the other, so that the second finds
// what the first one got.
$letterlock_renew = static function ($temp) use ($letterlock_ask, $letterlock_over, $letterlock_cookie) {
    $expires = (int) ($_SERVER['OIDC_access_token_expires'] ?? 0);
    $before = (int) ($_SERVER['LETTERLOCK_RENEW_BEFORE'] ?? 0);
    if (!$expires || !$before || time() < $expires - $before) {
        return;
    }
    $whose = hash('sha256', $letterlock_cookie);
    $file = rtrim($temp, '/') . '/letterlock-' . substr($whose, 0, 2);
    $lock = @fopen($file, 'c+');
    // Where others write too it could be a link of theirs, or be held by them.
    $held = $lock ? fstat($lock) : [];
    $named = $lock ? @lstat($file) : false;
    if (!$lock || !$named || $named['ino'] !== $held['ino'] || $named['dev'] !== $held['dev'] || ($held['mode'] & 0170000) !== 0100000
        || ($held['mode'] & 077) && !@chmod($file, 0600)) {
        error_log("letterlock: $temp: no lock can be made there");
        $letterlock_over('This web mail cannot write into its folder for temporary files.');
    }
    flock($lock, LOCK_EX);
    $status = 0;
    // A provider in trouble is not asked by each request; the old token is good for a while. But
    // many share a file: what failed for one of them ends no other's sign-in.
    list($failed, $who) = explode(' ', (string) stream_get_contents($lock, 200) . ' ');
    if ((int) $failed < time() - 5 || $who !== $whose && time() >= $expires - 5) {
        list($status, $head) = $letterlock_ask('/__oidc/token');
        if ($status == 204 && preg_match('/\r\nLetterlock-Token: ([0-9]+) ([!-~]+)/i', $head, $fresh)) {
            $expires = (int) $fresh[1];
            $_SERVER['OIDC_access_token'] = $fresh[2];
        }
        if ($status == 0 || $status >= 500 || time() >= $expires - $before) {
            ftruncate($lock, 0);
            rewind($lock);
            fwrite($lock, time() . ' ' . $whose);
        }
    }
    fclose($lock);
    if ($status == 401) {
        $letterlock_over('Your sign-in has ended.');
    }
    // Apache counts from when the token arrived, and the mail servers want a moment too.
    if (time() < $expires - 5) {
        return;
    }
    // The token has ended and there is no other. What Apache knows of the sign-in goes, and who
    // opens a page is sent to the provider, which need not ask for anything.
    list($status) = $letterlock_ask('/__oidc?logout=get');
    if ($status == 200 && ($_SERVER['REQUEST_METHOD'] ?? '') === 'GET' && empty($_GET['_framed']) && empty($_SERVER['HTTP_X_REQUESTED_WITH'])) {
        header('Cache-Control: no-store');
        header('Location: ./?' . ($_SERVER['QUERY_STRING'] ?? ''), true, 303);
        exit;
    }
    $letterlock_over('Your sign-in has ended.');
};

// From Apache's environment only, never from a header.
unset($_SERVER['PHP_AUTH_USER'], $_SERVER['PHP_AUTH_PW']);
if (!empty($_SERVER['REMOTE_USER']) && !empty($_SERVER['OIDC_access_token'])) {
    $letterlock_renew($config['temp_dir'] ?? RCUBE_INSTALL_PATH . 'temp');
    $_SERVER['PHP_AUTH_USER'] = strtolower($_SERVER['REMOTE_USER']);
    $_SERVER['PHP_AUTH_PW'] = 'Bearer ' . $_SERVER['OIDC_access_token'];
    // Each person has a cookie of their own: one that another left behind opens nothing.
    $config['session_name'] = 'roundcube_' . substr(hash('sha256', $_SERVER['PHP_AUTH_USER']), 0, 16);
} elseif (PHP_SAPI !== 'cli') {
    $letterlock_over('Nobody is signed in.');
}

$config['plugins'] = array_values(array_unique(array_merge((array) ($config['plugins'] ?? []), ['http_authentication'])));
// Apache's session ends, and the provider's.
$config['logout_url'] = '/__oidc?logout=';
$config['imap_auth_type'] = 'XOAUTH2';
$config['smtp_auth_type'] = 'XOAUTH2';
$config['smtp_user'] = '%u';
$config['smtp_pass'] = '%p';
$config['username_domain'] = '';
$config['auto_create_user'] = true;
$config['smtp_debug'] = false;
$config['imap_debug'] = false;
`
