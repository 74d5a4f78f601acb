package recipe

import (
	"fmt"
	"strings"
)

// Nginx are the facts about an nginx that serves Roundcube by PHP-FPM.
type Nginx struct {
	// Listen is where nginx listens: for the gateway (HOST:PORT on loopback, or a Unix
	// socket), or for people when Gate is set.
	Listen string
	Root   string // "/var/lib/roundcube/public_html"
	FPM    string // PHP's socket

	// ServerName, Certificate and Key are for people; with Gate only.
	ServerName, Certificate, Key string
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
  client_max_body_size 128m;
  location / { try_files $uri $uri/ /index.php$is_args$args; }
%s}
`, listen, n.Root, n.php(""))
}

func (n Nginx) php(more string) string {
	return fmt.Sprintf(`  location ~ ^(.+\.php)(/.*)?$ {
    fastcgi_split_path_info ^(.+\.php)(/.*)$;
    include /etc/nginx/fastcgi_params;
    fastcgi_param HTTP_HOST $http_host;
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_param PATH_INFO $fastcgi_path_info;
%s    fastcgi_pass unix:%s;
  }
`, more, n.FPM)
}

// asking has nginx in front: letterlockd is asked, and answers with the header.
func (n Nginx) asking() string {
	tls := ""
	if n.Certificate != "" {
		tls = fmt.Sprintf("  ssl_certificate %s;\n  ssl_certificate_key %s;\n  ssl_protocols TLSv1.2 TLSv1.3;\n", n.Certificate, n.Key)
	}
	ssl := ""
	if tls != "" {
		ssl = " ssl"
	}
	return fmt.Sprintf(`# Letterlock: nginx asks letterlockd before each request (auth_request) and serves Roundcube
# itself. trusted_proxies of [web] must name this nginx.
server {
  listen %s%s;
  server_name %s;
%s  root %s;
  index index.php;
  client_max_body_size 128m;
  underscores_in_headers off;

  auth_request /__letterlock_ask;
  auth_request_set $letterlock_authorization $upstream_http_x_letterlock_authorization;
  auth_request_set $letterlock_cookie $upstream_http_x_letterlock_cookie;
  error_page 401 = @letterlock;

  location = /__letterlock_ask {
    internal;
    proxy_pass http://%s/;
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Original-URI $request_uri;
    proxy_set_header X-Forwarded-For $remote_addr;
  }
  # Sign-in, log-out, and the answer to whoever has no session.
  location ^~ /__letterlock/ {
    auth_request off;
    proxy_pass http://%s;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
  }
  location @letterlock {
    auth_request off;
    proxy_pass http://%s;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
  }
  location / { try_files $uri $uri/ /index.php$is_args$args; }
%s}
`, n.Listen, ssl, n.ServerName, tls, n.Root, n.Ask, n.Gate, n.Gate, n.php("    # What the browser says here is never believed.\n    fastcgi_param HTTP_AUTHORIZATION $letterlock_authorization;\n    fastcgi_param HTTP_COOKIE $letterlock_cookie;\n"))
}
