package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A daemon is the real letterlockd with a folder of its own.
type daemon struct {
	path, folder string
	url          string // of its pages
	github       *github
	secret       secret.String // by which Dovecot asks
	doveadmKey   secret.String // by which it gives orders

	web, dovecot, doveadm int  // ports
	gate, roundcube       int  // ports of the gateway and of the web mail behind it
	webmail               bool // it has a gateway
	socket                string
	process               *lab.Process
}

// newDaemon chooses places; nothing runs yet but the stand-in of GitHub.
func newDaemon(path, folder string) (*daemon, error) {
	d := &daemon{path: path, folder: folder, socket: folder, secret: secret.New(rand.Text()), doveadmKey: secret.New(rand.Text())}
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make folder of letterlockd: %w", err)
	}
	ports, err := lab.FreePorts(5)
	if err != nil {
		return nil, err
	}
	d.web, d.dovecot, d.doveadm, d.gate, d.roundcube = ports[0], ports[1], ports[2], ports[3], ports[4]
	d.url = fmt.Sprintf("http://127.0.0.1:%d", d.web)
	if d.github, err = startGitHub(d.url + "/signin/github/callback"); err != nil {
		return nil, err
	}
	if err := d.configure(); err != nil {
		d.github.stop()
		return nil, err
	}
	return d, nil
}

const configuration = `domains = ["try.test"]
[database]
url = {{call .In "sqlite:" "letterlockd.db"}}
[web]
public_url = "{{.URL}}"
listen = "127.0.0.1:{{.Web}}"
master_key_file = {{call .In "" "master.key"}}
[oauth]
registration = true
[signin.github]
type = "github"
label = "GitHub"
url = "{{.GitHub}}"
client_id = "` + appID + `"
client_secret_file = {{call .In "" "github.secret"}}
organization = {{.Organization}}
bind_verified = true
provision = true
[portal]
name = "try.test"
[dovecot]
listen = "127.0.0.1:{{.Dovecot}}"
secret_file = {{call .In "" "dovecot.secret"}}
[doveadm.here]
url = "http://127.0.0.1:{{.Doveadm}}/doveadm/v1"
key_file = {{call .In "" "doveadm.key"}}
[postfix]
sasl = "{{.Socket}}/sasl"
senders = "{{.Socket}}/senders"
milter = "{{.Socket}}/milter"
{{if .Webmail}}[gateway.webmail]
title = "` + webmailTitle + `"
public_url = "{{.Gateway}}"
listen = "127.0.0.1:{{.Gate}}"
upstream = "http://127.0.0.1:{{.Roundcube}}"
kind = "roundcube"
{{end}}`

// configure writes the configuration, and the secrets beside it.
func (d *daemon) configure() error {
	conf, err := template.New("").Parse(configuration)
	if err != nil {
		return err
	}
	var text strings.Builder
	err = conf.Execute(&text, struct {
		In                                  func(prefix, name string) string
		URL, GitHub, Socket, Gateway        string
		Web, Dovecot, Doveadm, Organization int
		Webmail                             bool
		Gate, Roundcube                     int
	}{func(prefix, name string) string { return fmt.Sprintf("%q", prefix+filepath.ToSlash(d.in(name))) },
		d.url, d.github.url, filepath.ToSlash(d.socket), d.gateway(), d.web, d.dovecot, d.doveadm, memberOf, d.webmail, d.gate, d.roundcube})
	return errors.Join(err, d.write("letterlockd.toml", text.String(), 0o644), d.write("github.secret", d.github.secret+"\n", 0o600),
		d.write("dovecot.secret", d.secret.Reveal()+"\n", 0o600), d.write("doveadm.key", d.doveadmKey.Reveal()+"\n", 0o600))
}

func (d *daemon) in(name string) string { return filepath.Join(d.folder, name) }

func (d *daemon) write(name, text string, mode os.FileMode) error {
	return os.WriteFile(d.in(name), []byte(text), mode)
}

// start runs the daemon until stop, and returns when it answers.
func (d *daemon) start(ctx context.Context) error {
	var err error
	d.process, err = lab.StartProcess(lab.ProcessOptions{Name: "letterlockd", Path: d.path, Args: []string{"--config", d.in("letterlockd.toml"), "serve"}, Env: os.Environ()})
	if err != nil {
		return fmt.Errorf("start letterlockd: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := d.process.WaitLog(ctx, func(line string) bool { return strings.Contains(line, "msg=ready") }); err != nil {
		said := d.process.Log()
		return fmt.Errorf("start letterlockd: %w: %s", err, strings.Join(said[max(0, len(said)-3):], "; "))
	}
	return nil
}

// run runs a command of letterlockd and returns its standard output.
func (d *daemon) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var complaints strings.Builder
	cmd := exec.CommandContext(ctx, d.path, append([]string{"--config", d.in("letterlockd.toml")}, args...)...)
	cmd.Stderr = &complaints
	// Where Debian keeps Dovecot is on no ordinary user's PATH; the lab looks there too.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+string(os.PathListSeparator)+"/usr/sbin")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("letterlockd %s: %w", args[0], explain(err, complaints.String()))
	}
	return string(out), nil
}

func (d *daemon) stop() {
	if d.process != nil {
		d.process.Stop()
	}
	d.github.stop()
}

// gateway is what people type to read mail.
func (d *daemon) gateway() string { return fmt.Sprintf("http://127.0.0.1:%d", d.gate) }

// endpoint is one that Dovecot asks.
func (d *daemon) endpoint(name string) string {
	return (&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", d.dovecot), Path: "/dovecot/" + name}).String()
}

func (d *daemon) discovery() string { return d.url + "/.well-known/openid-configuration" }

// introspect asks, as Dovecot does, whose token it is and how long it lives.
func (d *daemon) introspect(ctx context.Context, token string) (left time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.endpoint("introspect"), strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Dovecot-Auth-Service", "imap")
	req.SetBasicAuth("dovecot", d.secret.Reveal())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("introspection: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Active   bool   `json:"active"`
		Username string `json:"username"`
		Expires  int64  `json:"exp"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 64<<10)).Decode(&answer); err != nil {
		return 0, fmt.Errorf("introspection: %w", err)
	}
	if !answer.Active || answer.Username != address {
		return 0, fmt.Errorf("the token is active: %v, of %q; want %s", answer.Active, answer.Username, address)
	}
	return time.Until(time.Unix(answer.Expires, 0)), nil
}
