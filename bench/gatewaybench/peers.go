package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// fill puts ports and folders into a configuration and writes it.
func (w *world) fill(name, text string) error {
	text = strings.NewReplacer(
		"@dir@", w.folder, "@upstream@", local(w.upstream), "@pages@", local(w.pagesPort), "@gate@", fmt.Sprint(w.gatePort),
		"@nginx@", local(w.nginxPort), "@apache@", fmt.Sprint(w.apachePort), "@issuer@", w.issuer(),
		"@client@", lab.DesktopClient, "@secret@", lab.ClientSecret,
	).Replace(text)
	return os.WriteFile(w.file(name), []byte(text), 0o644)
}

func (w *world) issuer() string {
	if w.op == nil {
		return ""
	}
	return w.op.Issuer
}

// nginxConf is the beginning of both: nothing is logged, connections stay open, and what
// comes from the upstream never goes by the disk.
const nginxConf = `user www-data www-data;
worker_processes @workers@;
pid @dir@/@name@.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
  access_log off;
  tcp_nopush on;
  sendfile on;
  keepalive_requests 100000000;
  keepalive_timeout 300;
  underscores_in_headers on;
  types { text/html html; }
  client_body_temp_path @dir@/@name@-body;
  fastcgi_temp_path @dir@/@name@-fastcgi;
  proxy_temp_path @dir@/@name@-proxy;
  scgi_temp_path @dir@/@name@-scgi;
  uwsgi_temp_path @dir@/@name@-uwsgi;
  proxy_max_temp_file_size 0;
`

// The upstream tells who it was handed: [Authorization][token of mod_auth_openidc].
const upstreamConf = nginxConf + `  open_file_cache max=16;
  server {
    listen @upstream@;
    root @dir@/www;
    location = /whoami { return 200 "[$http_authorization][$http_oidc_access_token]"; }
  }
}
`

const proxyConf = nginxConf + `  upstream webmail { server @upstream@; keepalive 256; keepalive_requests 100000000; }
  server {
    listen @nginx@;
    location / {
      proxy_pass http://webmail;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
    }
  }
}
`

func (w *world) nginx(ctx context.Context, name, workers, text string, port int) (*lab.Process, error) {
	if err := w.fill(name+".conf", strings.NewReplacer("@name@", name, "@workers@", workers).Replace(text)); err != nil {
		return nil, err
	}
	return w.start(ctx, port, "nginx", "-c", w.file(name+".conf"), "-p", w.folder, "-e", "stderr", "-g", "daemon off;")
}

func (w *world) startUpstream(ctx context.Context) error {
	if err := os.Mkdir(w.file("www"), 0o755); err != nil {
		return err
	}
	for _, page := range w.pages {
		if err := os.WriteFile(filepath.Join(w.file("www"), page.path), page.body, 0o644); err != nil {
			return err
		}
	}
	_, err := w.nginx(ctx, "upstream", "1", upstreamConf, w.upstream)
	return err
}

func (w *world) startNginx(ctx context.Context) error {
	process, err := w.nginx(ctx, "proxy", "auto", proxyConf, w.nginxPort)
	if err != nil {
		return err
	}
	w.peers = append(w.peers, &peer{name: "nginx alone", host: local(w.nginxPort), address: local(w.nginxPort), pid: process.Pid(), token: "[][]"})
	return nil
}

// apacheConf keeps sessions at the server: in shared memory, its default and the fastest of
// its caches. Two processes of many threads, as there are two cores.
const apacheConf = `ServerRoot @dir@
PidFile @dir@/apache.pid
ServerName localhost
Listen 127.0.0.1:@apache@
User www-data
Group www-data
ErrorLog /dev/stderr
LogLevel error
DefaultRuntimeDir @dir@/run
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule auth_openidc_module /usr/lib/apache2/modules/mod_auth_openidc.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
StartServers 2
ServerLimit 2
ThreadsPerChild 128
ThreadLimit 128
MaxRequestWorkers 256
MinSpareThreads 1
MaxSpareThreads 256
MaxConnectionsPerChild 0
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 300
<VirtualHost 127.0.0.1:@apache@>
  ServerName localhost
  OIDCProviderMetadataURL @issuer@/.well-known/openid-configuration
  OIDCClientID @client@
  OIDCClientSecret @secret@
  OIDCCryptoPassphrase bench-0123456789abcdef
  OIDCRedirectURI http://localhost:@apache@/__oidc
  OIDCScope "openid email"
  OIDCResponseType code
  OIDCPKCEMethod S256
  OIDCSessionType server-cache
  OIDCCacheType shm
  OIDCRemoteUserClaim email
  OIDCPassRefreshToken Off
  ProxyPreserveHost On
  ProxyPass / http://@upstream@/ ttl=60
  <Location />
    AuthType openid-connect
    Require valid-user
  </Location>
</VirtualHost>
`

func (w *world) startApache(ctx context.Context) error {
	if err := errors.Join(os.Mkdir(w.file("run"), 0o755), w.fill("apache.conf", apacheConf)); err != nil {
		return err
	}
	process, err := w.start(ctx, w.apachePort, "apache2", "-DFOREGROUND", "-f", w.file("apache.conf"))
	if err != nil {
		return err
	}
	p := &peer{name: "Apache, mod_auth_openidc", host: fmt.Sprintf("localhost:%d", w.apachePort), address: local(w.apachePort), pid: process.Pid(), token: "[]["}
	w.peers = append(w.peers, p)
	if p.cookie, err = w.signIn(ctx, "http://"+p.host+"/small.html"); err != nil {
		return fmt.Errorf("%s: %w; it said %s", p.name, err, last(process))
	}
	return nil
}

const daemonConf = `domains = ["try.test"]
[database]
url = "sqlite:@dir@/letterlockd.db"
[web]
public_url = "http://@pages@"
listen = "@pages@"
master_key_file = "@dir@/master.key"
[signin.campus]
type = "oidc"
issuer = "@issuer@"
client_id = "@client@"
client_secret_file = "@dir@/op.secret"
bind_verified = true
provision = true
[gateway.webmail]
public_url = "http://localhost:@gate@"
listen = "127.0.0.1:@gate@"
upstream = "http://@upstream@"
kind = "roundcube"
`

func (w *world) startGateway(ctx context.Context) error {
	daemon, err := filepath.Abs(w.o.daemon)
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(w.file("op.secret"), []byte(lab.ClientSecret+"\n"), 0o600), w.fill("letterlockd.toml", daemonConf)); err != nil {
		return err
	}
	process, err := w.start(ctx, w.gatePort, daemon, "--config", w.file("letterlockd.toml"), "serve", "--log", "warn")
	if err != nil {
		return err
	}
	p := &peer{name: "gateway of letterlockd", host: fmt.Sprintf("localhost:%d", w.gatePort), address: local(w.gatePort), pid: process.Pid(), token: "[Basic "}
	w.peers = append(w.peers, p)
	if p.cookie, err = w.signIn(ctx, "http://"+p.host+"/small.html"); err != nil {
		return fmt.Errorf("%s: %w; it said %s", p.name, err, last(process))
	}
	return nil
}

// last are the newest lines that a server logged.
func last(p *lab.Process) string {
	lines := p.Log()
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}
