package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// RoundcubeOptions describe a web mail.
type RoundcubeOptions struct {
	// Dovecot is where it reads. Required.
	Dovecot *Dovecot
	// Postfix is where it sends. SMTP is the port of another submission server with
	// implicit TLS, for who is not root and has no Postfix. One of them is required.
	Postfix *Postfix
	SMTP    int
	// CA signed their certificates. Required.
	CA *CA
	// Config is PHP, appended to config.inc.php: how people sign in.
	Config string
	// Site replaces the server block of nginx; @port@, @fpm@ and @root@ stand for where it
	// listens, PHP's socket and Debian's document root.
	Site string
	// Apache runs Apache in nginx's place, with Site as its configuration.
	Apache bool
	// Port it listens on; 0: a free one.
	Port int
}

// Roundcube is a running Roundcube 1.6 of Debian: PHP-FPM, nginx and SQLite of its own.
// Nothing in /etc is touched; only the code is the package's.
type Roundcube struct {
	URL  string
	Port int
	Dir  string // of configuration, database and logs

	options RoundcubeOptions
	fpm     *Process
	web     *Process
	last    []string
}

const roundcubeRoot = "/var/lib/roundcube/public_html"

// RoundcubeInstalled says whether all is on this machine, and readable, that a Roundcube
// behind a gateway needs: with nginx, SQLite and the plugin http_authentication.
func RoundcubeInstalled() bool {
	sqlite, _ := filepath.Glob("/usr/lib/php/*/pdo_sqlite.so")
	if len(sqlite) == 0 || !Installed("php-fpm8.2") || !Installed("nginx") {
		return false
	}
	for _, name := range []string{
		roundcubeRoot + "/index.php", "/etc/roundcube/defaults.inc.php", "/etc/roundcube/mimetypes.php", "/etc/nginx/fastcgi_params",
		"/usr/share/roundcube/plugins/http_authentication/http_authentication.php",
	} {
		file, err := os.Open(name)
		if err != nil {
			return false
		}
		file.Close()
	}
	return true
}

// StartRoundcube starts it; about 0.5 s.
func StartRoundcube(ctx context.Context, o RoundcubeOptions) (*Roundcube, error) {
	if _, err := os.Stat(roundcubeRoot + "/index.php"); err != nil {
		return nil, &Missing{Program: "Roundcube", Package: "roundcube-core roundcube-sqlite3 roundcube-plugins php-fpm"}
	}
	if o.Dovecot == nil || o.Postfix == nil && o.SMTP == 0 || o.CA == nil {
		return nil, errors.New("start roundcube: it needs a Dovecot, a Postfix or another submission server, and their CA")
	}
	if o.SMTP == 0 {
		o.SMTP = o.Postfix.Subs
	}
	rc, err := startRetry(func() (*Roundcube, error) { return startRoundcube(ctx, o) })
	if err != nil {
		return nil, fmt.Errorf("start roundcube: %w", err)
	}
	return rc, nil
}

func startRoundcube(ctx context.Context, o RoundcubeOptions) (*Roundcube, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	if o.Port != 0 {
		ports[0] = o.Port
	}
	rc := &Roundcube{options: o, Port: ports[0], URL: "http://" + loopback(ports[0])}
	if rc.Dir, err = newFolder("roundcube"); err != nil {
		return nil, err
	}
	if err := rc.start(ctx); err != nil {
		rc.Stop()
		return nil, err
	}
	return rc, nil
}

func (rc *Roundcube) start(ctx context.Context) error {
	if err := rc.writeConfig(); err != nil {
		return err
	}
	fpm, err := find("php-fpm8.2", "php-fpm")
	if err != nil {
		return err
	}
	if rc.fpm, err = StartProcess(ProcessOptions{Name: "php-fpm", Path: fpm, Args: []string{"--nodaemonize", "--fpm-config", rc.file("fpm.conf")}, Env: os.Environ()}); err != nil {
		return err
	}
	if _, err := rc.fpm.WaitLog(ctx, func(s string) bool { return strings.Contains(s, "ready to handle connections") }); err != nil {
		return err
	}
	o := ProcessOptions{Name: "nginx", Args: []string{"-c", rc.file("nginx.conf"), "-p", rc.Dir, "-e", "stderr", "-g", "daemon off;"}, Env: os.Environ()}
	if rc.options.Apache {
		o = ProcessOptions{Name: "apache2", Args: []string{"-DFOREGROUND", "-f", rc.file("apache.conf")}, Env: os.Environ()}
	}
	if o.Path, err = find(o.Name, o.Name); err != nil {
		return err
	}
	if rc.web, err = StartProcess(o); err != nil {
		return err
	}
	err = waitPort(ctx, rc.Port, rc.web)
	if err != nil && bindConflict(err.Error()) {
		return errPortTaken
	}
	return err
}

// Stop ends it and removes its folder with all that people kept in it.
func (rc *Roundcube) Stop() {
	for _, p := range []*Process{rc.web, rc.fpm} {
		if p != nil {
			p.Stop()
		}
	}
	if rc.fpm != nil && rc.web != nil {
		rc.last = rc.Log() // its files go now
	}
	os.RemoveAll(rc.Dir)
}

// Log returns what the web server, PHP and Roundcube itself logged.
func (rc *Roundcube) Log() []string {
	if rc.last != nil {
		return rc.last
	}
	lines := append(append(rc.fpm.Log(), rc.web.Log()...), rc.Access()...)
	logs, _ := filepath.Glob(rc.file("logs/*"))
	for _, name := range logs {
		if data, err := os.ReadFile(name); err == nil {
			lines = append(lines, strings.Split(strings.TrimRight(string(data), "\n"), "\n")...)
		}
	}
	return lines
}

// Access returns the web server's log of requests.
func (rc *Roundcube) Access() []string {
	data, err := os.ReadFile(rc.file("access.log"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(data), "\n"), "\n")
}

// Files returns all that lies on its disk: configuration, database, logs, temporary files.
func (rc *Roundcube) Files() (map[string][]byte, error) {
	all := map[string][]byte{}
	err := filepath.WalkDir(rc.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a temporary file
		}
		all[path] = data
		return err
	})
	return all, err
}

func (rc *Roundcube) file(name string) string { return filepath.Join(rc.Dir, name) }

// FPM is PHP's socket.
func (rc *Roundcube) FPM() string { return rc.file("run/fpm.sock") }

// Root is the document root of Debian's package.
func (rc *Roundcube) Root() string { return roundcubeRoot }

func (rc *Roundcube) writeConfig() error {
	name, group, uid, gid, err := webUser()
	if err != nil {
		return err
	}
	for _, folder := range []string{"config", "logs", "temp", "db", "run", "nginx"} {
		if err := os.Mkdir(rc.file(folder), 0o750); err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(rc.file(folder), uid, gid); err != nil {
				return err
			}
		}
	}
	if err := os.Chmod(rc.Dir, 0o755); err != nil {
		return err
	}
	o := rc.options
	mode := "user = " + name + "\ngroup = " + group + "\nlisten.owner = " + name + "\nlisten.group = " + group + "\n"
	nginxUser := "user " + name + " " + group + ";\n"
	if os.Geteuid() != 0 {
		mode, nginxUser = "", ""
	}
	site := o.Site
	if site == "" {
		site = roundcubeSite
	}
	fill := strings.NewReplacer(
		"@dir@", rc.Dir, "@port@", strconv.Itoa(rc.Port), "@fpm@", rc.FPM(), "@root@", roundcubeRoot, "@fpmuser@", mode, "@nginxuser@", nginxUser,
		"@user@", name, "@group@", group,
		"@imap@", strconv.Itoa(o.Dovecot.IMAPS), "@smtp@", strconv.Itoa(o.SMTP), "@ca@", rc.file("config/ca.pem"),
	)
	web, text := "nginx.conf", nginxConf+site+"}\n"
	if o.Apache {
		web, text = "apache.conf", apacheConf+site
	}
	ca, err := os.ReadFile(o.CA.File) // a copy: PHP may not enter the folder it lies in
	if err != nil {
		return fmt.Errorf("read certificate of the CA: %w", err)
	}
	return errors.Join(
		os.WriteFile(rc.file("config/ca.pem"), ca, 0o644),
		os.Symlink("/etc/roundcube/defaults.inc.php", rc.file("config/defaults.inc.php")),
		os.Symlink("/etc/roundcube/mimetypes.php", rc.file("config/mimetypes.php")),
		os.WriteFile(rc.file("config/config.inc.php"), []byte(fill.Replace(roundcubeConf)+o.Config), 0o644),
		os.WriteFile(rc.file("fpm.conf"), []byte(fill.Replace(fpmConf)), 0o644),
		os.WriteFile(rc.file(web), []byte(fill.Replace(text)), 0o644),
	)
}

// webUser is who PHP and nginx run as: Debian's www-data, or whoever called.
func webUser() (name, group string, uid, gid int, err error) {
	u, err := user.Current()
	if os.Geteuid() == 0 {
		u, err = user.Lookup("www-data")
	}
	if err != nil {
		return "", "", 0, 0, fmt.Errorf("look up the web server's user: %w", err)
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	group = u.Gid
	if g, err := user.LookupGroupId(u.Gid); err == nil {
		group = g.Name
	}
	return u.Username, group, uid, gid, errors.Join(uidErr, gidErr)
}

// roundcubeConf is what any Roundcube has; how people sign in is the test's.
const roundcubeConf = `<?php
$config['db_dsnw'] = 'sqlite:///@dir@/db/roundcube.db?mode=0640';
$config['log_dir'] = '@dir@/logs/';
$config['temp_dir'] = '@dir@/temp/';
$config['imap_host'] = 'ssl://127.0.0.1:@imap@';
$config['smtp_host'] = 'ssl://127.0.0.1:@smtp@';
$config['imap_conn_options'] = ['ssl' => ['cafile' => '@ca@', 'peer_name' => 'mail.try.test']];
$config['smtp_conn_options'] = ['ssl' => ['cafile' => '@ca@', 'peer_name' => 'mail.try.test']];
$config['des_key'] = 'lab-only-24-characters-k';
$config['plugins'] = [];
$config['skin'] = 'elastic';
$config['language'] = 'en_US';
$config['product_name'] = 'Try Webmail';
$config['enable_installer'] = false;
$config['spellcheck_engine'] = 'pspell';
$config['enable_spellcheck'] = false;
$config['refresh_interval'] = 60;
$config['mail_domain'] = 'try.test';
`

const fpmConf = `[global]
error_log = /dev/stderr
daemonize = no
[www]
@fpmuser@listen = @fpm@
pm = static
pm.max_children = 6
catch_workers_output = yes
env[ROUNDCUBE_CONFIG_DIR] = @dir@/config
php_admin_value[session.save_path] = @dir@/temp
php_admin_value[error_log] = /dev/stderr
php_admin_value[upload_max_filesize] = 64M
php_admin_value[post_max_size] = 64M
`

const nginxConf = `@nginxuser@worker_processes 1;
pid @dir@/nginx/pid;
error_log stderr;
events { worker_connections 256; }
http {
  include /etc/nginx/mime.types;
  access_log @dir@/access.log;
  client_body_temp_path @dir@/nginx/body;
  fastcgi_temp_path @dir@/nginx/fastcgi;
  proxy_temp_path @dir@/nginx/proxy;
  scgi_temp_path @dir@/nginx/scgi;
  uwsgi_temp_path @dir@/nginx/uwsgi;
`

// roundcubeSite is a plain site, as administrators have it before us.
const roundcubeSite = `
  server {
    listen 127.0.0.1:@port@;
    root @root@;
    index index.php;
    client_max_body_size 64m;
    location / { try_files $uri $uri/ /index.php$is_args$args; }
    location ~ ^(.+\.php)(/.*)?$ {
      fastcgi_split_path_info ^(.+\.php)(/.*)$;
      include /etc/nginx/fastcgi_params;
      fastcgi_param HTTP_HOST $http_host; # Debian's file leaves the port out
      fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
      fastcgi_param PATH_INFO $fastcgi_path_info;
      fastcgi_pass unix:@fpm@;
    }
  }
`

const apacheConf = `ServerRoot @dir@
PidFile @dir@/nginx/pid
ServerName 127.0.0.1
Listen 127.0.0.1:@port@
User @user@
Group @group@
ErrorLog /dev/stderr
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule auth_openidc_module /usr/lib/apache2/modules/mod_auth_openidc.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_fcgi_module /usr/lib/apache2/modules/mod_proxy_fcgi.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
LoadModule setenvif_module /usr/lib/apache2/modules/mod_setenvif.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
TypesConfig /etc/mime.types
<Directory />
  Options FollowSymLinks
  AllowOverride None
  Require all denied
</Directory>
DefaultRuntimeDir @dir@/run
Mutex file:@dir@/run default
LogFormat "%h %t \"%r\" %>s" plain
CustomLog @dir@/access.log plain
`

// RunRoundcube is StartRoundcube for a test.
func RunRoundcube(t TB, o RoundcubeOptions) *Roundcube {
	t.Helper()
	return run(t, "roundcube", func(ctx context.Context) (*Roundcube, error) { return StartRoundcube(ctx, o) })
}
