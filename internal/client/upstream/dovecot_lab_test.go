//go:build lab

package upstream

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A real Dovecot (IMAP, POP3, submission) that checks tokens by introspection at an
// HTTP server of this test. Needs root, since Dovecot changes users.

const labUser = "alice@example.test"

type dovecot struct {
	ports map[string]int
	log   string
}

func startDovecot(t *testing.T) *dovecot {
	t.Helper()
	dir, err := os.MkdirTemp("", "letterlock-dovecot-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	introspection := httptest.NewServer(http.HandlerFunc(introspect))
	t.Cleanup(introspection.Close)
	relay, _ := startSMTP(t, provider.STARTTLS, false)
	d := &dovecot{ports: map[string]int{}, log: filepath.Join(dir, "log")}
	names := []string{"imap", "imaps", "pop3", "pop3s", "submission", "submissions"}
	ports, err := lab.FreePorts(len(names))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		d.ports[name] = ports[i]
	}
	writeCertificate(t, dir)
	write(t, dir, "oauth2.conf", fmt.Sprintf("introspection_url = %s/\nintrospection_mode = post\nusername_attribute = username\nactive_attribute = active\nactive_value = true\nscope = mail\n", introspection.URL))
	write(t, dir, "dovecot.conf", d.configuration(dir, relay.Port))
	if err := os.MkdirAll(filepath.Join(dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	d.run(t, filepath.Join(dir, "dovecot.conf"))
	return d
}

func (d *dovecot) run(t *testing.T, config string) {
	t.Helper()
	command := exec.Command("dovecot", "-F", "-c", config)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = command.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = command.Process.Signal(os.Interrupt)
		<-ended
		if t.Failed() {
			text, _ := os.ReadFile(d.log)
			t.Logf("dovecot: %s\n%s", &output, text)
		}
	})
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.ports["imap"]))
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("dovecot ended: %s", &output)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatal("dovecot does not listen")
}

func (d *dovecot) configuration(dir string, relay int) string {
	return fmt.Sprintf(`
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
auth_verbose = yes
protocols = imap pop3 submission
listen = 127.0.0.1
ssl = required
ssl_cert = <%[1]s/cert.pem
ssl_key = <%[1]s/key.pem
auth_mechanisms = xoauth2 oauthbearer
first_valid_uid = 1
mail_location = maildir:%[1]s/mail/%%u
submission_relay_host = 127.0.0.1
submission_relay_port = %[2]d
hostname = mail.example.test
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = %[1]s/oauth2.conf
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=%[1]s/mail/%%u
}
service imap-login {
  inet_listener imap {
    port = %[3]d
  }
  inet_listener imaps {
    port = %[4]d
    ssl = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    port = %[5]d
  }
  inet_listener pop3s {
    port = %[6]d
    ssl = yes
  }
}
service submission-login {
  inet_listener submission {
    port = %[7]d
  }
  inet_listener submissions {
    port = %[8]d
    ssl = yes
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
`, dir, relay, d.ports["imap"], d.ports["imaps"], d.ports["pop3"], d.ports["pop3s"], d.ports["submission"], d.ports["submissions"])
}

// introspect knows tokens by how they begin.
func introspect(w http.ResponseWriter, r *http.Request) {
	token := r.PostFormValue("token")
	answer := map[string]any{"active": false}
	switch {
	case strings.HasPrefix(token, "good"):
		answer = map[string]any{"active": true, "username": labUser, "scope": "openid mail"}
	case strings.HasPrefix(token, "other"):
		answer = map[string]any{"active": true, "username": "bob@example.test", "scope": "mail"}
	case strings.HasPrefix(token, "narrow"):
		answer = map[string]any{"active": true, "username": labUser, "scope": "send"}
	case strings.HasPrefix(token, "outage"):
		http.Error(w, "down", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	certificate := testAuthority().server.Certificates[0]
	key, err := x509.MarshalECPrivateKey(certificate.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})))
	write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})))
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (d *dovecot) dial(t *testing.T, protocol Protocol, security provider.Security, trace *bytes.Buffer) *Conn {
	t.Helper()
	name := string(protocol)
	if protocol == SMTP {
		name = "submission"
	}
	if security == provider.ImplicitTLS {
		name += "s"
	}
	server := provider.MailServer{Host: "127.0.0.1", Port: d.ports[name], Security: security}
	conn, err := Dial(t.Context(), protocol, server, Options{TLS: &tls.Config{RootCAs: testAuthority().roots}, Trace: trace, Timeout: patience})
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", protocol, security, err, trace)
	}
	return conn
}

func TestDovecot(t *testing.T) {
	d := startDovecot(t)
	tokens := []struct {
		token  string
		status string // in the challenge; empty: signed in
	}{
		{"good", ""},
		{"good" + strings.Repeat("x", 2000), ""},
		{"good" + strings.Repeat("x", 5500), ""},
		{"bad" + strings.Repeat("x", 1500), "401 invalid_token"},
		{"other", "401 invalid_token"},
		{"narrow", "401 invalid_token"},
	}
	for _, protocol := range []Protocol{IMAP, POP3, SMTP} {
		for _, security := range []provider.Security{provider.ImplicitTLS, provider.STARTTLS} {
			for _, mechanism := range []string{sasl.XOAuth2, sasl.OAuthBearer} {
				for _, tt := range tokens {
					t.Run(fmt.Sprintf("%s/%s/%s/%.4s%d", protocol, security, mechanism, tt.token, len(tt.token)), func(t *testing.T) {
						t.Parallel()
						d.signIn(t, protocol, security, mechanism, tt.token, tt.status)
					})
				}
			}
		}
	}
}

func (d *dovecot) signIn(t *testing.T, protocol Protocol, security provider.Security, mechanism, token, status string) {
	var trace bytes.Buffer
	conn := d.dial(t, protocol, security, &trace)
	defer conn.Close()
	err := conn.Authenticate(t.Context(), Login{User: labUser, Mechanisms: []string{mechanism}, Token: secret.New(token)})
	if status == "" {
		if err == nil {
			err = conn.Check(t.Context())
		}
		if err == nil {
			err = conn.Quit(t.Context())
		}
		if err != nil {
			t.Errorf("%v\n%s", err, &trace)
		}
		return
	}
	refusal, ok := errors.AsType[*AuthError](err)
	if !ok || refusal.Temporary {
		t.Fatalf("%v\n%s", err, &trace)
	}
	told, ok := sasl.ParseRefusal([]byte(refusal.Challenge))
	if !ok || !strings.Contains(status, told.Status) {
		t.Errorf("challenge %q\n%s", refusal.Challenge, &trace)
	}
}

// An introspection endpoint that is down is no fault of the token's.
func TestDovecotOutage(t *testing.T) {
	d := startDovecot(t)
	for _, protocol := range []Protocol{IMAP, POP3} {
		var trace bytes.Buffer
		conn := d.dial(t, protocol, provider.ImplicitTLS, &trace)
		err := conn.Authenticate(t.Context(), Login{User: labUser, Token: secret.New("outage")})
		if refusal, ok := errors.AsType[*AuthError](err); !ok || !refusal.Temporary {
			t.Errorf("%s: %v\n%s", protocol, err, &trace)
		}
		conn.Close()
	}
}

// fetchmail fetches by IMAP and by POP3 through the tunnel's own dialogue.
func TestDovecotFetchmail(t *testing.T) {
	d := startDovecot(t)
	for _, tt := range []struct {
		protocol Protocol
		options  string
	}{
		{IMAP, "proto imap auth ssh"},
		{POP3, "proto pop3 auth ssh"},
		{POP3, "proto pop3 auth password"},
	} {
		t.Run(string(tt.protocol)+"/"+tt.options, func(t *testing.T) {
			port, done := d.tunnelPort(t, tt.protocol)
			home := t.TempDir()
			// What stands here for `letterlock tunnel`: a pipe to the tunnel's port.
			plugin := filepath.Join(home, "plugin")
			script := fmt.Sprintf("#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/%d\ncat <&3 &\ncat >&3\nwait\n", port)
			if err := os.WriteFile(plugin, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			rc := fmt.Sprintf("poll tunnel.example.test %s no dns\n plugin \"%s\" user alice password unused is root here sslproto '' mda \"cat >>%s/got\" keep\n", tt.options, plugin, home)
			path := filepath.Join(home, "fetchmailrc")
			if err := os.WriteFile(path, []byte(rc), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			command := exec.CommandContext(ctx, "fetchmail", "-v", "-v", "--check", "-f", path)
			command.Env = append(os.Environ(), "HOME="+home, "FETCHMAILHOME="+home)
			output, err := command.CombinedOutput()
			// 1: signed in, and there is no mail.
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
				t.Fatalf("%v\n%s", err, output)
			}
			<-done
		})
	}
}

// tunnelPort serves one tunnel on a loopback port, where a command would serve it on
// its standard input and output.
func (d *dovecot) tunnelPort(t *testing.T, protocol Protocol) (port int, done chan struct{}) {
	t.Helper()
	var trace bytes.Buffer
	conn := d.dial(t, protocol, provider.ImplicitTLS, &trace)
	if err := conn.Authenticate(t.Context(), Login{User: labUser, Token: secret.New("good")}); err != nil {
		t.Fatalf("%v\n%s", err, &trace)
	}
	listener := listenTCP(t)
	t.Cleanup(func() { listener.Close() })
	done = make(chan struct{})
	var once sync.Once
	go func() {
		defer once.Do(func() { close(done) })
		client, err := listener.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		if err := Tunnel(context.WithoutCancel(t.Context()), conn, client, client); err != nil {
			t.Errorf("tunnel: %v", err)
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port, done
}
