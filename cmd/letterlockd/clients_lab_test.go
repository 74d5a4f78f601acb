//go:build lab

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/letterlock-mail/letterlock/internal/lab/browser"
	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
)

// TestIndependentClients: npm's openid-client and oauth4webapi, which check each answer
// against the standards, at the daemon's own pages; the test is the browser. Basic and
// pushed requests, iss, nonce, max_age, ID tokens by signature, userinfo, rotation, replay,
// revocation, refusals, device codes, machines by both ways to show a secret, and programs
// that sign: entered ones, and those that register with a key of their own.
func TestIndependentClients(t *testing.T) {
	d := newDesk(t, "http")
	d.configure("example.org", "[oauth]\nregistration = true\n")
	d.must("person", "add", "ann@example.org")
	var to struct {
		Issuer string            `json:"issuer"`
		Web    map[string]string `json:"web"`
		Robot  map[string]string `json:"machine"`
		Signer map[string]any    `json:"signer"`
	}
	to.Issuer = d.public
	to.Web = map[string]string{"id": "webmail", "secret": d.must("client", "add", "webmail", "--name", "Web mail", "--redirect", "http://127.0.0.1:4711/cb")}
	to.Robot = map[string]string{"id": "board", "secret": d.must("client", "add", "board", "--name", "Board", "--person", "ann@example.org", "--scope", "imap,smtp", "--introspect")}
	key := jose.JSONWebKey{Key: signingKey(t), KeyID: "k1"}
	public, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	d.must("client", "add", "signer", "--name", "Signer", "--person", "ann@example.org", "--scope", "imap,smtp", "--introspect",
		"--auth", "private_key_jwt", "--jwks", d.write("signer.json", string(public)))
	to.Signer = map[string]any{"id": "signer", "key": key}
	d.serve()
	ann := d.sit("ann@example.org")

	ctx := patiently(t)
	cmd := exec.CommandContext(ctx, "node", "clients.mjs")
	cmd.Dir = filepath.Join("..", "..", "internal", "lab", "node")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("node with the packages of internal/lab/node: %v", err)
	}
	first, err := json.Marshal(to)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(in, "%s\n", first)
	asked, done := 0, false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var question struct {
			Open, Refuse, Device string
			Done                 bool
		}
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil {
			t.Errorf("the clients said %s", lines.Text())
			continue
		}
		done = question.Done
		if !done {
			asked++
			answerClient(ann, in, question.Open, question.Refuse, question.Device)
		}
	}
	if err := cmd.Wait(); err != nil || !done || asked < 13 {
		t.Fatalf("%d questions, done %v: %v\n%s", asked, done, err, complaints.String())
	}
	if t.Failed() {
		t.Log(complaints.String())
	}
}

// answerClient is the browser of the clients.
func answerClient(b *seat, in io.Writer, open, refuse, device string) {
	b.t.Helper()
	if device != "" {
		at, err := url.Parse(device)
		if err != nil {
			b.t.Fatal(err)
		}
		_, page := b.do(http.MethodGet, at.RequestURI(), nil)
		_, page = b.press(page, "/device")
		b.press(page, "/device/decide", "decision", "allow")
		fmt.Fprintln(in, "ok")
		return
	}
	decision := "allow"
	if refuse != "" {
		open, decision = refuse, "deny"
	}
	_, page := b.do(http.MethodGet, open, nil)
	res, page := b.press(page, "/consent", "decision", decision)
	if res.StatusCode != http.StatusSeeOther {
		b.t.Fatalf("%s %s", res.Status, page)
	}
	fmt.Fprintln(in, res.Header.Get("Location"))
}

// TestChromiumConsent: from an empty browser through the sign-in to the consent page and back
// to a program on this computer, where the page's policy must let the form lead; and a
// device's code.
func TestChromiumConsent(t *testing.T) {
	ctx := patiently(t)
	d := newDesk(t, "http")
	text, err := os.ReadFile(d.conf)
	if err != nil {
		t.Fatal(err)
	}
	d.write("letterlockd.toml", string(text)+"[oauth]\nregistration = true\n")
	d.must("person", "add", "ann@example.org")
	link := d.must("person", "invite", "ann@example.org")
	d.github.Sit(&fakegithub.Person{ID: 7, Login: "octo-ann", Orgs: []fakegithub.Membership{{ID: 9919, State: "active"}}})
	d.serve()
	arrived := make(chan url.Values, 4)
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cb" {
			arrived <- r.URL.Query()
			_, _ = io.WriteString(w, `<p id="arrived">You may close this page.</p>`)
		}
	}))
	t.Cleanup(program.Close)
	id, _, _ := d.register("Mutt")
	_, conf := d.peer(id, "", "imap", "smtp", "offline_access")
	conf.RedirectURL = program.URL + "/cb"
	verifier := oauth2.GenerateVerifier()
	b := browser.Run(t, browser.Options{})
	do(ctx, t, b,
		func() error { return b.Open(ctx, link) },
		func() error { return b.Click(ctx, `a[href="/signin/github"]`) },
		func() error { return b.WaitFor(ctx, `button[value="accept"]`) },
		func() error { return b.Click(ctx, `button[value="accept"]`) },
		d.awaited(ctx, "ann@example.org", 1),
	)
	fresh := browser.Run(t, browser.Options{})
	do(ctx, t, fresh,
		func() error { return fresh.Open(ctx, conf.AuthCodeURL("st", oauth2.S256ChallengeOption(verifier))) },
		func() error { return fresh.WaitFor(ctx, `button[value="allow"]`) },
		func() error { return fresh.Click(ctx, `input[name="limit"]`) },
		func() error { return fresh.Click(ctx, `button[value="allow"]`) },
		func() error { return fresh.WaitFor(ctx, "#arrived") },
	)
	back := <-arrived
	token, err := conf.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil || back.Get("iss") != d.public || back.Get("state") != "st" || token.Extra("scope") != "send-only offline_access" {
		t.Fatalf("%v, %v, %v", back, token, err)
	}
	d.must("client", "add", "tv", "--name", "Box in the kitchen", "--public", "--device")
	_, conf = d.peer("tv", "", "imap")
	device, err := conf.DeviceAuth(ctx)
	if err != nil {
		t.Fatal(err)
	}
	do(ctx, t, fresh,
		func() error { return fresh.Open(ctx, device.VerificationURIComplete) },
		func() error { return fresh.Click(ctx, `form button`) },
		func() error { return fresh.WaitFor(ctx, `button[value="allow"]`) },
		func() error { return fresh.Click(ctx, `button[value="allow"]`) },
	)
	device.Interval = 1
	if token, err = conf.DeviceAccessToken(ctx, device); err != nil || token.AccessToken == "" {
		t.Errorf("the device: %v", err)
	}
}
