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
	return fmt.Sprintf(`# Letterlock: Roundcube behind mod_auth_openidc. People sign in at the provider, and its own
# token goes to the mail servers; letterlockd takes it for the audience and the client of
# [issuer.NAME] only. Needs: a2enmod auth_openidc proxy_fcgi setenvif headers rewrite ssl
<VirtualHost *:%[1]s>
  ServerName %[2]s
%[3]s  DocumentRoot %[4]s
  LimitRequestBody 134217728

  OIDCProviderMetadataURL %[5]s/.well-known/openid-configuration
  OIDCClientID %[6]s
  # One line, for root alone (chmod 600): OIDCClientSecret THE-SECRET
  Include %[7]s
  OIDCCryptoPassphrase "exec:/usr/bin/head -c 2000 %[7]s"
  OIDCRedirectURI %[8]s/__oidc
  OIDCScope "%[9]s"
  OIDCResponseType code
  OIDCPKCEMethod S256
%[10]s  # Sessions live at the server: a cookie would carry the tokens.
  OIDCSessionType server-cache
  OIDCCacheType file
  OIDCCacheDir %[11]s
  OIDCCookieSameSite On
  OIDCRemoteUserClaim %[12]s
  # A token that would not last for the request is renewed before it.
  OIDCRefreshAccessTokenBeforeExpiry 60 logout_on_error
  OIDCPassRefreshToken Off
  OIDCPassClaimsAs environment
  # A background request must not become a sign-in page.
  OIDCUnAuthAction 401 "%%{HTTP:X-Requested-With} == 'XMLHttpRequest'"

  # What the browser says here is never believed; mod_auth_openidc takes out OIDC_ headers.
  RequestHeader unset Authorization early
  RequestHeader unset Proxy early
  <Location />
    AuthType openid-connect
    Require valid-user
  </Location>
  <LocationMatch "^/(installer|bin|SQL|config|logs|temp|vendor)(/|$)">
    Require all denied
  </LocationMatch>
  RewriteEngine On
  RewriteCond %%{QUERY_STRING} (^|&)_(task|action)=login(&|$)
  RewriteRule ^ /? [R=302,L]

  <Directory %[4]s>
    Options FollowSymLinks
    AllowOverride None
    Require valid-user
    DirectoryIndex index.php
  </Directory>
  <FilesMatch "\.php$">
    SetHandler "proxy:unix:%[13]s|fcgi://localhost"
  </FilesMatch>
</VirtualHost>
`, port, u.Hostname(), tls, a.Root, strings.TrimSuffix(a.Issuer, "/"), a.ClientID, a.SecretFile, strings.TrimSuffix(a.PublicURL, "/"), a.Scope, extra, a.CacheDir, a.NameClaim, a.FPM)
}

// RoundcubeApache is Roundcube behind such an Apache.
type RoundcubeApache struct{}

// Config is the end of Roundcube's config.inc.php, as a file of its own: the plugin
// http_authentication looks for a name and a password, and finds those that the lines
// above it make of what mod_auth_openidc put into the environment. Only the server can
// put anything there: what browsers send is in HTTP_ variables.
func (RoundcubeApache) Config() string {
	return `<?php
// Letterlock: Roundcube 1.6 behind Apache's mod_auth_openidc, with the provider's own token. At
// the end of config.inc.php:
//   include(__DIR__ . '/letterlock.inc.php');
// Without that line everything is as it was.

// From Apache's environment only, never from a header.
if (!empty($_SERVER['REMOTE_USER']) && !empty($_SERVER['OIDC_access_token'])) {
    $_SERVER['PHP_AUTH_USER'] = strtolower($_SERVER['REMOTE_USER']);
    $_SERVER['PHP_AUTH_PW'] = 'Bearer ' . $_SERVER['OIDC_access_token'];
} else {
    unset($_SERVER['PHP_AUTH_USER'], $_SERVER['PHP_AUTH_PW']);
}
// Each person has a cookie of their own: one that another left behind opens nothing.
if (!empty($_SERVER['PHP_AUTH_USER'])) {
    $config['session_name'] = 'roundcube_' . substr(hash('sha256', $_SERVER['PHP_AUTH_USER']), 0, 16);
}

$config['plugins'] = array_values(array_unique(array_merge((array) ($config['plugins'] ?? []), ['http_authentication'])));
$config['logout_url'] = '/__oidc?logout=' . rawurlencode('/');
$config['imap_auth_type'] = 'XOAUTH2';
$config['smtp_auth_type'] = 'XOAUTH2';
$config['smtp_user'] = '%u';
$config['smtp_pass'] = '%p';
$config['username_domain'] = '';
$config['auto_create_user'] = true;
$config['smtp_debug'] = false;
$config['imap_debug'] = false;
`
}
