package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

const inboxPage = `<table id="messagelist"></table><script>rcmail.set_env({"task":"mail","request_token":"Abc123"});</script>`

// TestInboxOpen: only the inbox, and only without a place for a password.
func TestInboxOpen(t *testing.T) {
	if token, err := inboxOpen(inboxPage); err != nil || token != "Abc123" {
		t.Errorf("the inbox: %q %v", token, err)
	}
	for name, page := range map[string]string{
		"nothing":          "",
		"another page":     strings.Replace(inboxPage, `"task":"mail"`, `"task":"settings"`, 1),
		"no list":          strings.Replace(inboxPage, "messagelist", "x", 1),
		"no token":         strings.Replace(inboxPage, "request_token", "x", 1),
		"password":         inboxPage + `<input name="x" type="password">`,
		"password, bare":   inboxPage + `<INPUT TYPE=password>`,
		"Roundcube's":      inboxPage + `<input name="_pass" type="text">`,
		"Roundcube's form": inboxPage + `<form id="login-form">`,
	} {
		if _, err := inboxOpen(page); err == nil {
			t.Errorf("%s passed for an inbox without a password form", name)
		}
	}
}

// A fakeGate answers as the gateway does, but for the one thing that a test changes.
func fakeGate(t *testing.T, change func(w http.ResponseWriter, r *http.Request) (done bool)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		switch {
		case change != nil && change(w, r):
		case r.Method == http.MethodPost && r.URL.Query().Get("_task") == "login":
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusForbidden)
		case r.Form.Get("_task") == "login":
			http.Redirect(w, r, "/", http.StatusSeeOther)
		case r.Form.Get("_action") == "list" && r.Header.Get("X-Roundcube-Request") == "Abc123":
			fmt.Fprint(w, `{"action":"list","exec":"this.add_message_row(1,{\"subject\":\"Apples\"});"}`)
		default:
			fmt.Fprint(w, inboxPage)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestWebmailDoors: a gateway that lets the login form through, or shows another inbox, is
// found out.
func TestWebmailDoors(t *testing.T) {
	form := func(w http.ResponseWriter) bool {
		fmt.Fprint(w, `<form id="login-form"><input name="_pass" type="password"></form>`)
		return true
	}
	for name, c := range map[string]struct {
		change func(w http.ResponseWriter, r *http.Request) bool
		want   string
	}{
		"good":       {nil, ""},
		"login page": {func(w http.ResponseWriter, r *http.Request) bool { return r.Form.Get("_task") == "login" && form(w) }, "answered 200"},
		"login by form": {func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodPost && r.URL.RawQuery == "" && form(w)
		}, "POST / answered 200"},
		"login as start page": {func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodGet && r.URL.RawQuery == "" && form(w)
		}, "form for a password"},
		"nothing in the list": {func(w http.ResponseWriter, r *http.Request) bool {
			fmt.Fprint(w, map[bool]string{true: `{"action":"list","exec":""}`, false: inboxPage}[r.Form.Get("_action") == "list"])
			return r.Method == http.MethodGet
		}, "lacks the message"},
	} {
		gate := fakeGate(t, c.change)
		s, err := newSurfer()
		if err != nil {
			t.Fatal(err)
		}
		if err = s.reads(t.Context(), gate, "Apples"); err == nil {
			err = s.noDoors(t.Context(), gate)
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := strangerSignsIn(t.Context(), fakeGate(t, nil)); err == nil {
		t.Error("a stranger reads the mail, and that passed")
	}
	if err := noToken(map[string][]byte{"a/sql.log": []byte("Bearer llat_x")}); err == nil {
		t.Error("an open token passed")
	}
	if err := noToken(nil); err == nil {
		t.Error("nothing was looked at, and that passed")
	}
}

// TestRevokeLeavesWebmail: the web mail may read as well, and is not what line 7 means.
func TestRevokeLeavesWebmail(t *testing.T) {
	var revoked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		revoked = r.PostFormValue("id")
		for _, name := range []string{webmailTitle, "Letterlock"} {
			fmt.Fprintf(w, `<li class="card">Read mail<form method="post" action="/grants/revoke"><input type="hidden" name="id" value="%[1]s"><button aria-label="Revoke the program %[1]s">`, name)
			fmt.Fprint(w, `Revoke</button></form></li>`)
		}
	}))
	t.Cleanup(server.Close)
	s, err := newSurfer()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.open(t.Context(), server.URL); err != nil {
		t.Fatal(err)
	}
	if err := s.revoke(t.Context(), "Read"); err != nil || revoked != "Letterlock" {
		t.Errorf("%q was revoked: %v", revoked, err)
	}
}

// TestGateway: the section is there with web mail only, and the port is the one behind the
// first page's when that is free.
func TestGateway(t *testing.T) {
	folder := t.TempDir()
	d := &daemon{folder: folder, github: &github{}, gate: 20001, roundcube: 20002}
	for _, with := range []bool{false, true} {
		d.webmail = with
		if err := d.configure(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(folder, "letterlockd.toml"))
		if err != nil || strings.Contains(string(data), "[gateway.webmail]") != with || strings.Contains(string(data), `public_url = "http://127.0.0.1:20001"`) != with {
			t.Errorf("with web mail %v: %v\n%s", with, err, data)
		}
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := busy.Addr().(*net.TCPAddr).Port
	for _, first := range []int{0, port - 1} {
		if d.gateBehind(first); d.gate != 20001 {
			t.Errorf("behind %d the gateway is at %d", first, d.gate)
		}
	}
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ { // another program may take one of them meanwhile
		ports, err := lab.FreePorts(1)
		if err != nil {
			t.Fatal(err)
		}
		if d.gateBehind(ports[0] - 1); d.gate == ports[0] {
			break
		}
		if tries == 20 {
			t.Fatalf("the gateway is at %d, want %d", d.gate, ports[0])
		}
	}
}
