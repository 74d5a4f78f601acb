//go:build lab && long

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// TestOAuthRates measures introspections and renewals a second, durable ones, by eight
// callers: in this process on SQLite, and at a daemon on PostgreSQL. The figures are in
// the log; the test holds that every answer was good.
func TestOAuthRates(t *testing.T) {
	d := newDesk(t, "http")
	d.configure("example.org", "[oauth]\nregistration = true\n")
	d.must("person", "add", "ann@example.org")
	secret := d.must("client", "add", "rs", "--name", "Resource server", "--introspect")
	defer d.remember(time.Second)()
	d.serve()
	ann := d.sit("ann@example.org")
	id, _, _ := d.register("Rates")
	_, conf := d.peer(id, "", "imap", "offline_access")
	var tokens []string
	var access string
	for range callers {
		verifier := oauth2.GenerateVerifier()
		got, err := conf.Exchange(t.Context(), ann.allow(conf.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier))).Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		tokens, access = append(tokens, got.RefreshToken), got.AccessToken
	}
	measure(t, "introspections, SQLite", d.public+"/introspect", func(int) (url.Values, string) { return url.Values{"token": {access}}, basic("rs", secret) }, func(_ int, value map[string]any) bool { return value["active"] == true })
	measure(t, "renewals, SQLite", d.public+"/token", renewals(id, tokens), keep(tokens))

	s := startTwins(t)
	tokens = nil
	for range callers {
		_, got, err := s.form(s.at(-1), "/token", s.code())
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, fmt.Sprint(got["refresh_token"]))
		access = fmt.Sprint(got["access_token"])
	}
	ask := func(int) (url.Values, string) {
		return url.Values{"token": {access}, "client_id": {"dovecot"}, "client_secret": {"dove-secret"}}, ""
	}
	measure(t, "introspections by Dovecot's end point, PostgreSQL", "http://"+s.dovecot[0]+"/dovecot/introspect", ask, func(_ int, value map[string]any) bool { return value["active"] == true })
	measure(t, "renewals, PostgreSQL", "http://"+strings.TrimPrefix(s.public, "http://")+"/token", renewals(s.program, tokens), keep(tokens))
}

const callers = 8

func renewals(client string, tokens []string) func(int) (url.Values, string) {
	return func(n int) (url.Values, string) {
		return url.Values{"grant_type": {"refresh_token"}, "client_id": {client}, "refresh_token": {tokens[n]}}, ""
	}
}

func keep(tokens []string) func(int, map[string]any) bool {
	return func(n int, value map[string]any) bool {
		next, ok := value["refresh_token"].(string)
		if ok {
			tokens[n] = next
		}
		return ok
	}
}

func measure(t *testing.T, what, place string, ask func(int) (url.Values, string), good func(int, map[string]any) bool) {
	t.Helper()
	var count atomic.Int64
	var group sync.WaitGroup
	begun := time.Now()
	transport := &http.Transport{MaxIdleConnsPerHost: callers}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	for n := range callers {
		group.Go(func() {
			for time.Since(begun) < 3*time.Second {
				form, authorization := ask(n)
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, place, strings.NewReader(form.Encode()))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.Header.Set("X-Dovecot-Auth-Service", "imap")
				if authorization != "" {
					r.Header.Set("Authorization", authorization)
				}
				res, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				var value map[string]any
				if err != nil || json.Unmarshal(body, &value) != nil || !good(n, value) {
					t.Errorf("%s: %s %s, %v", what, res.Status, body, err)
					return
				}
				count.Add(1)
			}
		})
	}
	group.Wait()
	t.Logf("%s: %.0f a second", what, float64(count.Load())/time.Since(begun).Seconds())
}
