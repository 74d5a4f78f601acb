package trymail_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/trymail"
	"github.com/letterlock-mail/letterlock/internal/sasl"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// start runs the servers against an introspection endpoint that knows four tokens.
func start(t *testing.T) (*trymail.Servers, *tls.Config) {
	t.Helper()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, password, _ := r.BasicAuth()
		if id != "try" || password != "rs" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		answers := map[string]string{
			"good":     `{"active":true,"username":"you@try.test","scope":"imap smtp"}`,
			"sendonly": `{"active":true,"username":"you@try.test","scope":"smtp send-only"}`,
			"nameless": `{"active":true,"scope":"imap smtp"}`,
			"garbage":  `<html>`,
		}
		answer, ok := answers[r.PostFormValue("token")]
		if !ok {
			answer = `{"active":false}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(endpoint.Close)
	ca := lab.RunCA(t)
	conf, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	servers, err := trymail.Start(trymail.Options{
		TLS: conf, Introspection: endpoint.URL, ClientID: "try", Secret: secret.New("rs"), HTTP: endpoint.Client(),
		OpenIDConfiguration: "https://issuer.test/.well-known/openid-configuration", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(servers.Stop)
	client := ca.Client()
	client.ServerName = "127.0.0.1"
	return servers, client
}

// cases say how a sign-in ends; want is what the challenge or the final line holds.
var cases = []struct {
	name, user, token string
	imap, smtp        string // "" is success
}{
	{"good", "you@try.test", "good", "", ""},
	{"name in another case", "You@Try.Test", "good", "", ""},
	{"another's name", "other@try.test", "good", "AUTHENTICATIONFAILED", "535"},
	{"unknown token", "you@try.test", "stale", "AUTHENTICATIONFAILED", "535"},
	{"token that may not read", "you@try.test", "sendonly", "AUTHENTICATIONFAILED", ""},
	{"active without a user", "you@try.test", "nameless", "AUTHENTICATIONFAILED", "535"},
	{"no answer to be had", "you@try.test", "garbage", "UNAVAILABLE", "454"},
}

func client(t *testing.T, mechanism, user, token string) *spy {
	t.Helper()
	inner, err := sasl.NewClient(sasl.Credentials{Mechanism: mechanism, User: user, Secret: secret.New(token)})
	if err != nil {
		t.Fatal(err)
	}
	return &spy{Client: inner}
}

// A spy keeps the error challenge, which the libraries do not show.
type spy struct {
	sasl.Client
	challenge string
}

func (s *spy) Next(challenge []byte) ([]byte, error) {
	s.challenge = string(challenge)
	return s.Client.Next(challenge)
}

func TestIMAP(t *testing.T) {
	servers, conf := start(t)
	for _, c := range cases {
		// go-imap's client answers the challenge of XOAUTH2 with "=", which is no empty
		// line; here both ends are that library, so it goes through.
		for _, mechanism := range []string{sasl.OAuthBearer, sasl.XOAuth2} {
			conn, err := imapclient.DialTLS(servers.IMAP.String(), &imapclient.Options{TLSConfig: conf})
			if err != nil {
				t.Fatal(err)
			}
			login := client(t, mechanism, c.user, c.token)
			err = conn.Authenticate(login)
			checkIMAP(t, c.name+" "+mechanism, conn, err, c.imap, login.challenge)
			_ = conn.Close()
		}
	}
}

func checkIMAP(t *testing.T, name string, conn *imapclient.Client, err error, want, challenge string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		box, err := conn.Select("INBOX", nil).Wait()
		if err != nil || box.NumMessages != 1 {
			t.Errorf("%s: the inbox: %v %+v, want the welcome in it", name, err, box)
		}
		return
	}
	var refused *imap.Error
	if !errors.As(err, &refused) || string(refused.Code) != want {
		t.Errorf("%s: got %v, want %s", name, err, want)
	}
	if told := strings.Contains(challenge, "issuer.test"); told != (want == "AUTHENTICATIONFAILED") {
		t.Errorf("%s: challenge %q", name, challenge)
	}
}

func TestIMAPTakesNoPassword(t *testing.T) {
	servers, conf := start(t)
	conn, err := imapclient.DialTLS(servers.IMAP.String(), &imapclient.Options{TLSConfig: conf})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, password := range []string{"", "good"} {
		if err := conn.Login("you@try.test", password).Wait(); err == nil {
			t.Errorf("LOGIN with password %q went in", password)
		}
	}
	for _, capability := range []imap.Cap{"AUTH=PLAIN", "AUTH=LOGIN"} {
		if conn.Caps().Has(capability) {
			t.Errorf("the server offers %s", capability)
		}
	}
}

func TestSMTP(t *testing.T) {
	servers, conf := start(t)
	for _, c := range cases {
		for _, mechanism := range []string{sasl.OAuthBearer, sasl.XOAuth2} {
			conn, err := smtp.DialTLS(servers.SMTP.String(), conf)
			if err != nil {
				t.Fatal(err)
			}
			err = conn.Auth(client(t, mechanism, c.user, c.token))
			switch {
			case c.smtp == "" && err != nil:
				t.Errorf("%s %s: %v", c.name, mechanism, err)
			case c.smtp != "" && (err == nil || !strings.Contains(err.Error(), c.smtp) && !hasCode(err, c.smtp)):
				t.Errorf("%s %s: got %v, want %s", c.name, mechanism, err, c.smtp)
			}
			_ = conn.Close()
		}
	}
}

func hasCode(err error, code string) bool {
	var refused *smtp.SMTPError
	return errors.As(err, &refused) && code == map[int]string{535: "535", 454: "454", 530: "530", 553: "553", 550: "550"}[refused.Code]
}

func TestSubmission(t *testing.T) {
	servers, conf := start(t)
	conn, err := smtp.DialTLS(servers.SMTP.String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Mail("you@try.test", nil); !hasCode(err, "530") {
		t.Errorf("MAIL before AUTH: %v", err)
	}
	if err := conn.Auth(client(t, sasl.XOAuth2, "you@try.test", "sendonly")); err != nil {
		t.Fatal(err)
	}
	message := "From: you@try.test\r\nSubject: x\r\n\r\nx\r\n"
	if err := conn.SendMail("other@try.test", []string{"you@try.test"}, strings.NewReader(message)); !hasCode(err, "553") {
		t.Errorf("sending as another: %v", err)
	}
	if err := conn.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SendMail("you@try.test", []string{"x@elsewhere.test"}, strings.NewReader(message)); !hasCode(err, "550") {
		t.Errorf("sending elsewhere: %v", err)
	}
	if err := conn.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SendMail("you@try.test", []string{"you@try.test"}, strings.NewReader(message)); err != nil {
		t.Fatal(err)
	}
	if got := servers.Delivered("You@try.test"); len(got) != 1 || !strings.Contains(string(got[0]), strings.TrimSpace(message[strings.Index(message, "\r\n\r\n"):])) {
		t.Errorf("delivered: %q", got)
	}
	if n, err := servers.Messages(t.Context(), "you@try.test"); n != 2 || err != nil {
		t.Errorf("the inbox has %d messages, want welcome and the one sent: %v", n, err)
	}
}
