//go:build lab

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/browser"
	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
)

func patiently(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	t.Cleanup(cancel)
	return ctx
}

// do takes steps, and says where the browser was when one failed.
func do(ctx context.Context, t *testing.T, b *browser.Browser, steps ...func() error) {
	t.Helper()
	for i, step := range steps {
		if err := step(); err != nil {
			after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute) // ctx may be what ended it
			defer cancel()
			at, _ := b.Location(after)
			text, _ := b.Text(after)
			t.Fatalf("step %d at %s: %v\n%s", i, at, err, text)
		}
	}
}

// Chromium over TLS: an invitation is opened, GitHub asked, the question answered, and the
// browser signed in by a cookie that only this host can set.
func TestChromiumGitHub(t *testing.T) {
	ctx := patiently(t)
	ca := lab.RunCA(t)
	d := newDesk(t, "https")
	d.must("person", "add", "ann@example.org")
	link := d.must("person", "invite", "ann@example.org")
	d.github.Sit(&fakegithub.Person{ID: 7, Login: "octo-ann", Orgs: []fakegithub.Membership{{ID: 9919, State: "active"}}})
	tlsConfig, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: d.listener, TLS: tlsConfig, Config: &http.Server{Handler: d.handler(), ReadHeaderTimeout: time.Minute}}
	server.StartTLS()
	t.Cleanup(server.Close)
	b := browser.Run(t, browser.Options{CA: ca})
	do(ctx, t, b,
		func() error { return b.Open(ctx, link) },
		func() error { return b.Click(ctx, `a[href="/signin/github"]`) },
		func() error { return b.WaitFor(ctx, `button[value="accept"]`) },
		func() error { return b.Click(ctx, `button[value="accept"]`) },
		d.awaited(ctx, "ann@example.org", 1),
		// The session is there before the page that follows: who opens another meanwhile loses it.
		func() error { return b.WaitFor(ctx, `a[href="/security"]`) },
		// Once more, by GitHub alone, and back to where the person wanted to go.
		func() error { return b.Open(ctx, d.public+"/signin/github?back=%2Fsignin%3Fchoose%3D1") },
		func() error { return b.WaitFor(ctx, `a[href="/signin/github"]`) },
	)
	if at, err := b.Location(ctx); err != nil || at != d.public+"/signin?choose=1" {
		t.Errorf("the browser ended at %s: %v", at, err)
	}
	if _, sessions, bindings := d.person("ann@example.org"); len(sessions) != 1 || len(bindings) != 1 || !strings.HasPrefix(sessions[0].Agent, "Chrome") {
		t.Errorf("%+v, %+v", sessions, bindings)
	}
	if refused := d.github.Fired(); len(refused) != 0 {
		t.Errorf("GitHub refused %v", refused)
	}
}

// Chromium and the certified oidc-provider: the person is made at the first sign-in, and
// found at the second.
func TestChromiumOIDC(t *testing.T) {
	ctx := patiently(t)
	d := bareDesk(t, "http")
	op := lab.RunOP(t, lab.OPOptions{UserInfoOnly: true, RedirectURIs: []string{d.public + "/signin/campus/callback"}, Backchannel: d.public + "/signin/campus/backchannel-logout"})
	d.configure("try.test", fmt.Sprintf(`[signin.campus]
type = "oidc"
issuer = %q
client_id = %q
client_secret_file = %q
bind_verified = true
provision = true
[membership.campus]
refresh = true
`, op.Issuer, lab.DesktopClient, d.write("secret", lab.ClientSecret+"\n")))
	d.serve()
	for n := 1; n <= 2; n++ {
		b := browser.Run(t, browser.Options{})
		do(ctx, t, b,
			func() error { return b.Open(ctx, d.public+"/signin?back=%2Fsignin%3Fchoose%3D1") },
			func() error { return b.Fill(ctx, `input[name="username"]`, lab.Alice().Name) },
			func() error { return b.Fill(ctx, `input[name="password"]`, lab.Alice().Password) },
			func() error { return b.Click(ctx, "#signin") },
			func() error { return b.WaitFor(ctx, "#allow") },
			func() error { return b.Click(ctx, "#allow") },
			func() error { return b.WaitFor(ctx, `a[href="/signin/campus"]`) },
		)
		_, sessions, bindings := d.person(lab.Alice().Email)
		if len(sessions) != n || len(bindings) != 1 || bindings[0].Issuer != op.Issuer || bindings[0].Subject != lab.Alice().Subject {
			t.Fatalf("sign-in %d: %+v, %+v", n, sessions, bindings)
		}
		if n == 2 {
			d.signOutUpstream(ctx, b, op)
		}
	}
	d.askedAgain(ctx, op)
}

// awaited waits until a person has so many sessions.
func (d *desk) awaited(ctx context.Context, address string, want int) func() error {
	return func() error {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, sessions, _ := d.person(address); len(sessions) >= want {
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("%s has no session: %w", address, ctx.Err())
			}
		}
	}
}
