package trymail_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
	gosasl "github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/trymail"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// beside starts the servers as they are beside letterlockd; the one app password is
// good for SMTP only, and only "you" may send as you@try.test.
func beside(t *testing.T) (*trymail.Servers, *lab.CA) {
	t.Helper()
	ca := lab.RunCA(t)
	conf, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		user := r.PostFormValue("username")
		switch {
		case r.URL.Path == "/introspect":
			_, _ = io.WriteString(w, `{"active":true,"username":"you@try.test","scope":"imap smtp"}`)
		case r.PostFormValue("grant_type") == "password" && r.PostFormValue("password") == "app" && r.Header.Get("X-Dovecot-Auth-Service") == "smtp":
			_ = json.NewEncoder(w).Encode(map[string]any{"active": true, "username": user})
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"active": false, "username": "!" + user})
		}
	}))
	t.Cleanup(endpoint.Close)
	servers, err := trymail.Start(trymail.Options{
		TLS: conf, Introspection: endpoint.URL + "/introspect", Password: endpoint.URL + "/password", ClientID: "try", Secret: secret.New("rs"),
		HTTP: endpoint.Client(), Senders: socketmap(t, "you@try.test"), DoveadmKey: secret.New("key"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(servers.Stop)
	return servers, ca
}

// socketmap knows one address, and fails for broken@.
func socketmap(t *testing.T, address string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "senders")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			query, _ := bufio.NewReader(conn).ReadString(',')
			reply := "NOTFOUND "
			switch {
			case strings.HasSuffix(query, ":senders "+address+","):
				reply = "OK you@try.test,you@try.test+box"
			case strings.Contains(query, "broken@"):
				reply = "TEMP away"
			}
			fmt.Fprintf(conn, "%d:%s,", len(reply), reply)
			_ = conn.Close()
		}
	}()
	return path
}

func TestAppPassword(t *testing.T) {
	servers, ca := beside(t)
	conf := ca.Client()
	conf.ServerName = "127.0.0.1"
	for password, want := range map[string]string{"app": "", "wrong": "535"} {
		conn, err := smtp.DialTLS(servers.SMTP.String(), conf)
		if err != nil {
			t.Fatal(err)
		}
		err = conn.Auth(gosasl.NewPlainClient("", "you@try.test", password))
		if (want == "") != (err == nil) || want != "" && !hasCode(err, want) {
			t.Errorf("%s: %v, want %q", password, err, want)
		}
		if err == nil {
			for from, want := range map[string]string{"other@try.test": "553", "broken@try.test": "451", "you@try.test": ""} {
				err := conn.Mail(from, nil)
				if (want == "") != (err == nil) || want != "" && !strings.Contains(err.Error(), "Sender address rejected") {
					t.Errorf("MAIL as %s: %v", from, err)
				}
			}
		}
		_ = conn.Close()
	}
	reader, err := imapclient.DialTLS(servers.IMAP.String(), &imapclient.Options{TLSConfig: conf})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := reader.Login("you@try.test", "app").Wait(); err == nil {
		t.Error("a password that only sends reads mail")
	}
}

func TestKick(t *testing.T) {
	servers, ca := beside(t)
	conf := ca.Client()
	conf.ServerName = "127.0.0.1"
	conn, err := imapclient.DialTLS(servers.IMAP.String(), &imapclient.Options{TLSConfig: conf})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Authenticate(client(t, "XOAUTH2", "you@try.test", "any")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := conn.Idle()
	if err != nil {
		t.Fatal(err)
	}
	if got := order(t, servers, "wrong", `[]`); got != "401" {
		t.Errorf("with another key: %s", got)
	}
	got := order(t, servers, "key", `[["authCacheFlush",{"user":[]},"flush"],["kick",{"mask":["other@try.test"]},"k0"],["kick",{"mask":["You@try.test"]},"k1"],["reload",{},"r"]]`)
	want := `200 [["doveadmResponse",[{"entries":0}],"flush"],["error",{"exitCode":68,"type":"exitCode"},"k0"],["doveadmResponse",[{"result":"ok"}],"k1"],["error",{"type":"unknownMethod"},"r"]]`
	if got != want {
		t.Errorf("doveadm answered\n%s, want\n%s", got, want)
	}
	if err := idle.Wait(); err == nil {
		t.Error("the session goes on")
	}
}

func order(t *testing.T, servers *trymail.Servers, key, commands string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, "http://"+servers.Doveadm.String()+"/doveadm/v1", strings.NewReader(commands))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "X-Dovecot-API "+base64.StdEncoding.EncodeToString([]byte(key)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, body))
}
