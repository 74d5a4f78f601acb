package recipe

import (
	"fmt"
	"strings"
)

// Nginx are the facts about an nginx that serves Roundcube by PHP-FPM.
type Nginx struct {
	// Listen is where nginx listens: for the gateway (HOST:PORT on loopback, or a Unix
	// socket), or for people when Gate is set.
	Listen    string
	Root      string // "/var/lib/roundcube/public_html"
	FPM       string // PHP's socket
	MaxUpload int    // MiB

	// Host is what people type, with the port if it is not the usual one; ServerName is it
	// without. These, Name, Certificate and Key are for people; with Gate only.
	Host, ServerName, Certificate, Key string
	Name                               string // of the gateway
	// Ask and Gate are letterlockd's ask_listen and listen of the gateway: nginx asks
	// before each request (auth_request) and serves people itself.
	Ask, Gate string
}

// Site is a server block. Run as printed with nginx 1.22.
func (n Nginx) Site() string {
	if n.Ask != "" {
		return n.asking()
	}
	listen := n.Listen
	if strings.HasPrefix(listen, "/") {
		listen = "unix:" + listen
	}
	return fmt.Sprintf(`# Letterlock: Roundcube for the gateway of letterlockd, which listens for people. Nobody else
# may reach this address.
server {
  listen %s;
  root %s;
  index index.php;
  client_max_body_size %dm;
  location / { try_files $uri $uri/ /index.php$is_args$args; }
%s}
`, listen, n.Root, n.MaxUpload, n.php("$http_host", ""))
}

// php serves the one page of Roundcube.
func (n Nginx) php(host, more string) string {
	return fmt.Sprintf(`  location ~ ^/index\.php(/|$) {
    fastcgi_split_path_info ^(/index\.php)(/.*)$;
    include /etc/nginx/fastcgi_params;
    fastcgi_param HTTP_HOST %s;
    # A header Proxy would name a proxy to programs that PHP starts (httpoxy).
    fastcgi_param HTTP_PROXY "";
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_param PATH_INFO $fastcgi_path_info;
%s    fastcgi_pass unix:%s;
  }
  # All other PHP files are parts of that one.
  location ~ \.php(/|$) { return 404; }
`, host, more, n.FPM)
}

// asking has nginx in front: letterlockd is asked, and answers with the header.
func (n Nginx) asking() string {
	var listen strings.Builder
	ssl := ""
	if n.Certificate != "" {
		ssl = " ssl"
	}
	fmt.Fprintf(&listen, "  listen %s%s;\n", n.Listen, ssl)
	if strings.Trim(n.Listen, "0123456789") == "" { // a port alone is IPv4 only to nginx
		fmt.Fprintf(&listen, "  listen [::]:%s%s;\n", n.Listen, ssl)
	}
	if n.Certificate != "" {
		fmt.Fprintf(&listen, "  ssl_certificate %s;\n  ssl_certificate_key %s;\n  ssl_protocols TLSv1.2 TLSv1.3;\n", n.Certificate, n.Key)
	}
	head := "    add_header X-Content-Type-Options nosniff always;\n    add_header Referrer-Policy same-origin always;\n"
	if n.Certificate != "" {
		head += "    add_header Strict-Transport-Security max-age=31536000 always;\n"
	}
	// letterlockd answers with pages of its own, which bring their headers.
	const toGate = `    proxy_pass http://letterlock_%[1]s;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
`
	gate := fmt.Sprintf(toGate, n.Name)
	return fmt.Sprintf(`# Letterlock: nginx asks letterlockd before each request (auth_request) and serves Roundcube
# itself. trusted_proxies of [web] must name this nginx.
upstream letterlock_%[1]s { server %[2]s max_fails=0; keepalive 16; }
upstream letterlock_%[1]s_ask { server %[3]s max_fails=0; keepalive 16; }
server {
%[4]s  server_name %[5]s;
  root %[6]s;
  index index.php;
  client_max_body_size %[7]dm;
  underscores_in_headers off;

  auth_request /__letterlock_ask;
  auth_request_set $letterlock_asked $upstream_status;
  auth_request_set $letterlock_authorization $upstream_http_x_letterlock_authorization;
  auth_request_set $letterlock_cookie $upstream_http_x_letterlock_cookie;
  auth_request_set $letterlock_user $upstream_http_x_letterlock_user;
  auth_request_set $letterlock_session $upstream_http_x_letterlock_session;
  # letterlockd itself answers whom it does not let through: with the sign-in, or with why.
  error_page 401 = @letterlock;

  location = /__letterlock_ask {
    internal;
    proxy_pass http://letterlock_%[1]s_ask/;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Original-URI $request_uri;
    proxy_set_header X-Forwarded-For $remote_addr;
    # The answer has the web mail's cookies in it.
    proxy_buffer_size 32k;
    proxy_buffers 4 32k;
  }
  # Sign-in and log-out.
  location ^~ /__letterlock/ {
    auth_request off;
%[8]s  }
  location @letterlock {
    auth_request off;
%[8]s    proxy_set_header X-Letterlock-Asked $letterlock_asked;
  }
  location / {
%[9]s    try_files $uri $uri/ /index.php$is_args$args;
  }
%[10]s}
`, n.Name, n.Gate, n.Ask, listen.String(), n.ServerName, n.Root, n.MaxUpload, gate, head, n.php(n.Host, n.told()+head))
}

// told is what PHP is told of a request: what letterlockd said, and of what the browser said
// only what says nothing about who it is, from where, or by which way.
func (n Nginx) told() string {
	var b strings.Builder
	b.WriteString(`    # Who it is says letterlockd. Of the browser's own headers only those below pass.
    fastcgi_pass_request_headers off;
    fastcgi_param HTTP_AUTHORIZATION $letterlock_authorization;
    fastcgi_param HTTP_COOKIE $letterlock_cookie;
    fastcgi_param REMOTE_USER $letterlock_user;
    fastcgi_param LETTERLOCK_SESSION $letterlock_session;
`)
	for _, name := range []string{
		"accept", "accept_encoding", "accept_language", "if_modified_since", "if_none_match", "origin", "range", "referer",
		"sec_fetch_dest", "sec_fetch_mode", "sec_fetch_site", "user_agent", "x_requested_with", "x_roundcube_request",
	} {
		fmt.Fprintf(&b, "    fastcgi_param HTTP_%s $http_%s if_not_empty;\n", strings.ToUpper(name), name)
	}
	b.WriteString(`    # Roundcube's 401 has a form for a password.
    fastcgi_intercept_errors on;
    fastcgi_hide_header X-Powered-By;
    fastcgi_hide_header WWW-Authenticate;
`)
	return b.String()
}
