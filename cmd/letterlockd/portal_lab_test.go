//go:build lab

package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// TestPortalPassword is one story with the program itself: ann makes an app password on
// the page, Postfix's question about it is answered with yes, she revokes it, and with no.
// The doveadm node of the configuration is away, which the page says.
func TestPortalPassword(t *testing.T) {
	s := &site{t: t, folder: t.TempDir()}
	s.binary = filepath.Join(s.folder, "letterlockd")
	if out, err := exec.Command("go", "build", "-o", s.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ports := freePorts(t, 3)
	home := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	s.conf = filepath.Join(s.folder, "letterlockd.toml")
	s.write("doveadm.key", "order-key\n", 0o600)
	s.write("letterlockd.toml", fmt.Sprintf(`domains = ["try.test"]
[database]
url = "sqlite:%[1]s/letterlockd.db"
[web]
public_url = "%[2]s"
listen = "127.0.0.1:%[3]d"
master_key_file = "%[1]s/master.key"
[portal]
name = "Try"
imap = "imap.try.test:993"
submission = "smtp.try.test:587"
[postfix]
sasl = "127.0.0.1:%[4]d"
[doveadm.mx1]
url = "http://127.0.0.1:%[5]d/doveadm/v1"
key_file = "%[1]s/doveadm.key"
`, s.folder, home, ports[0], ports[1], ports[2]), 0o644)
	s.run("person", "add", "ann@try.test", "--name", "Ann")
	b := &surfer{t: t, home: home, cookie: s.signInAs("ann@try.test")}
	s.serve()

	if page := b.get("/"); !strings.Contains(page, "No app password is in force") {
		t.Fatalf("the first page says %s", page)
	}
	form := url.Values{"token": {b.token("/passwords/new", "/passwords/new")}, "label": {"Phone"}, "protocol": {"imap", "smtp"}, "expires": {"0"}}
	made := b.post("/passwords/new", form)
	found := regexp.MustCompile(`id="password"[^>]*>([0-9a-z-]+)<`).FindStringSubmatch(made)
	if found == nil || !strings.Contains(made, "smtp.try.test") {
		t.Fatalf("no password on %s", made)
	}
	if answer := s.askSASL(ports[1], "ann@try.test", found[1]); !strings.HasPrefix(answer, "OK\t1\t") {
		t.Errorf("the new app password: %s", answer)
	}
	if again := b.post("/passwords/new", url.Values{"token": {"forged"}, "label": {"Other"}, "protocol": {"imap"}, "expires": {"0"}}); strings.Contains(again, `id="password"`) {
		t.Error("a forged form made a password")
	}

	page := b.get("/")
	form = url.Values{"id": {b.find(page, `action="/passwords/revoke">.*?name="id" value="([^"]+)"`)}, "token": {b.find(page, `action="/passwords/revoke">.*?name="token" value="([^"]+)"`)}}
	page = b.post("/passwords/revoke", form)
	if !strings.Contains(page, "Not confirmed at mx1") || !strings.Contains(page, "No app password is in force") {
		t.Errorf("after the revocation: %s", page)
	}
	if answer := s.askSASL(ports[1], "ann@try.test", found[1]); !strings.HasPrefix(answer, "FAIL\t1\t") {
		t.Errorf("the revoked app password: %s", answer)
	}
	if trail := s.run("audit", "list", "--person", "ann@try.test"); !strings.Contains(trail, "credential.made") || !strings.Contains(trail, "credential.revoked") || strings.Contains(trail, found[1]) {
		t.Errorf("the trail says\n%s", trail)
	}
	if log := strings.Join(s.process.Log(), "\n"); strings.Contains(log, found[1]) {
		t.Error("the password is in the log")
	}
	if config := b.get("/.well-known/autoconfig/mail/config-v1.1.xml"); !strings.Contains(config, "<hostname>imap.try.test</hostname>") || !strings.Contains(config, "<socketType>STARTTLS</socketType>") {
		t.Errorf("autoconfig says %s", config)
	}
	if answer := b.status("/admin"); answer != http.StatusForbidden {
		t.Errorf("ann opens the admin pages: %d", answer)
	}
}

// signInAs puts a browser into the database as sign-in does; the program is not running.
func (s *site) signInAs(address string) string {
	s.t.Helper()
	ctx, now := s.t.Context(), time.Now()
	db, err := database.Open(ctx, "sqlite:"+filepath.Join(s.folder, "letterlockd.db"), database.Options{Now: time.Now})
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	person, err := db.PersonByAddress(ctx, address)
	if err != nil {
		s.t.Fatal(err)
	}
	const cookie = "the cookie of this test"
	err = db.AddSession(ctx, identity.Session{ID: identity.DigestOf(strings.ReplaceAll(cookie, " ", "-")), Person: person.ID, Proved: now, How: "github", Agent: "Go",
		From: netip.MustParseAddr("127.0.0.1"), Created: now, Seen: now, Expires: now.Add(time.Hour)})
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.ReplaceAll(cookie, " ", "-")
}

// askSASL asks as Postfix does, over Dovecot's authentication protocol.
func (s *site) askSASL(port int, user, password string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testPatience)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tsecured\trip=127.0.0.1\tresp=%s\n",
		base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "OK\t") || strings.HasPrefix(lines.Text(), "FAIL\t") {
			return lines.Text()
		}
	}
	s.t.Fatalf("no answer: %v", lines.Err())
	return ""
}

// A surfer is a browser without script.
type surfer struct {
	t            *testing.T
	home, cookie string
}

func (b *surfer) do(method, path string, form url.Values) (int, string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), testPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, b.home+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.AddCookie(&http.Cookie{Name: "letterlock", Value: b.cookie})
	client := http.Client{CheckRedirect: func(next *http.Request, via []*http.Request) error {
		next.Header.Set("Cookie", via[0].Header.Get("Cookie"))
		return nil
	}}
	response, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func (b *surfer) get(path string) string {
	b.t.Helper()
	_, body := b.do(http.MethodGet, path, nil)
	return body
}

func (b *surfer) status(path string) int {
	b.t.Helper()
	status, _ := b.do(http.MethodGet, path, nil)
	return status
}

func (b *surfer) post(path string, form url.Values) string {
	b.t.Helper()
	_, body := b.do(http.MethodPost, path, form)
	return body
}

func (b *surfer) find(page, pattern string) string {
	b.t.Helper()
	found := regexp.MustCompile("(?s)" + pattern).FindStringSubmatch(page)
	if found == nil {
		b.t.Fatalf("no %s in %s", pattern, page)
	}
	return found[1]
}

func (b *surfer) token(page, action string) string {
	b.t.Helper()
	return b.find(b.get(page), `action="`+action+`".*?name="token" value="([^"]+)"`)
}
