package mailauth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A doveadm is a fake node: it says what was ordered, and answers as told.
type doveadm struct {
	orders chan string
	answer func(n int, tags []string) (status int, body string)
}

func (d *doveadm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var commands [][]any
	if json.Unmarshal(body, &commands) != nil || r.Header.Get("Authorization") != "X-Dovecot-API a2V5" {
		w.WriteHeader(http.StatusUnauthorized)
		d.orders <- "unauthorized " + r.Header.Get("Authorization")
		return
	}
	var tags, words []string
	for _, c := range commands {
		tags = append(tags, c[2].(string))
		words = append(words, fmt.Sprint(c[0], c[1]))
	}
	status, text := http.StatusOK, done(tags)
	if d.answer != nil {
		status, text = d.answer(len(d.orders), tags)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
	d.orders <- strings.Join(words, " ")
}

func done(tags []string) string {
	var parts []string
	for _, tag := range tags {
		if strings.HasPrefix(tag, "kick") {
			parts = append(parts, `["error",{"type":"exitCode","exitCode":68},"`+tag+`"]`)
		} else {
			parts = append(parts, `["doveadmResponse",[{"entries":"3"}],"`+tag+`"]`)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func runPush(t *testing.T, again time.Duration, nodes ...*doveadm) *Push {
	t.Helper()
	o := PushOptions{Log: quietLog(), Now: time.Now, Again: again, Retry: time.Millisecond, Timeout: bound}
	for i, d := range nodes {
		d.orders = make(chan string, 100)
		server := httptest.NewServer(d)
		t.Cleanup(server.Close)
		o.Nodes = append(o.Nodes, Node{Name: fmt.Sprintf("mx%d", i+1), URL: server.URL + "/doveadm/v1", Key: secret.New("key")})
	}
	p := NewPush(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return p
}

func wait(t *testing.T, orders chan string) string {
	t.Helper()
	select {
	case order := <-orders:
		return order
	case <-time.After(bound):
		t.Fatal("no order came")
		return ""
	}
}

// until polls the state: what is awaited has no event of its own.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(bound); !ok(); {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestPush(t *testing.T) {
	d := &doveadm{}
	p := runPush(t, time.Millisecond, d)
	p.Revoke("ann@example.org", "sales@example.org", "", "a\nb")
	want := "authCacheFlushmap[user:[]] kickmap[mask:[ann@example.org]] kickmap[mask:[sales@example.org]]"
	for range 2 { // and once more for a sign-in that was under way
		if got := wait(t, d.orders); got != want {
			t.Fatalf("ordered %q", got)
		}
	}
	until(t, "confirmed", func() bool { return p.State()[0].Confirmed() })
	if s := p.State()[0]; s.Error != "" || s.Tried.IsZero() {
		t.Errorf("state %+v", s)
	}
	p.Revoke("*@example.org")
	for range 2 {
		if got := wait(t, d.orders); got != "authCacheFlushmap[user:[]] kickmap[mask:[?@example.org]]" {
			t.Errorf("for a name of a star ordered %q: that throws out others", got)
		}
	}
	p.Revoke("bob@example.org")
	if got := wait(t, d.orders); got != "authCacheFlushmap[user:[]] kickmap[mask:[bob@example.org]]" {
		t.Errorf("ordered %q", got)
	}
}

func TestPushUntilConfirmed(t *testing.T) {
	for name, bad := range map[string]struct {
		status int
		body   string
		says   string
	}{
		"500":               {500, "", "status 500"},
		"wrong key":         {401, "", "key was refused"},
		"redirect":          {302, "", "status 302"},
		"not JSON":          {200, "<html>", "not the JSON"},
		"nothing":           {200, "[]", "no answer"},
		"flush failed":      {200, `[["error",{"type":"exitCode","exitCode":75},"flush"],["doveadmResponse",[],"kick0"]]`, "authCacheFlush: not confirmed: exitCode, exit code 75"},
		"no such command":   {200, `[["doveadmResponse",[],"flush"],["error",{"type":"unknownMethod"},"kick0"]]`, "kick: not confirmed: unknownMethod"},
		"somebody else's":   {200, `[["doveadmResponse",[],"flush"],["doveadmResponse",[],"kick7"]]`, "kick: not confirmed: no answer"},
		"a nasty type":      {200, `[["error",{"type":"a\u001b[2Jb"},"flush"],["doveadmResponse",[],"kick0"]]`, "a?[2Jb"},
		"a tag twice":       {200, `[["doveadmResponse",[],"flush"],["doveadmResponse",[],"flush"]]`, "twice"},
		"endless":           {200, "[" + strings.Repeat(" ", maxDoveadm) + "]", "over"},
		"parts are missing": {200, `[["doveadmResponse","flush"]]`, "2 parts"},
	} {
		t.Run(name, func(t *testing.T) {
			healed := make(chan struct{})
			sick := &doveadm{answer: func(_ int, tags []string) (int, string) {
				select {
				case <-healed:
					return 200, done(tags)
				default:
					return bad.status, bad.body
				}
			}}
			well := &doveadm{}
			p := runPush(t, time.Millisecond, sick, well)
			p.Revoke("ann@example.org")
			wait(t, sick.orders)
			wait(t, sick.orders) // tried again
			until(t, "one node confirmed", func() bool { return p.State()[1].Confirmed() })
			until(t, "an error", func() bool { return p.State()[0].Error != "" })
			if s := p.State()[0]; s.Confirmed() || !strings.Contains(s.Error, bad.says) || s.Since.IsZero() {
				t.Errorf("state %+v", s)
			}
			if got := p.Unconfirmed("ann@example.org"); !slices.Equal(got, []string{"mx1"}) {
				t.Errorf("unconfirmed at %v", got)
			}
			if got := p.Unconfirmed("bob@example.org"); got != nil {
				t.Errorf("bob unconfirmed at %v", got)
			}
			close(healed)
			until(t, "confirmed", func() bool { return p.State()[0].Confirmed() })
		})
	}
}

// TestPushAgain: what is revoked while the last order about somebody runs begins anew.
func TestPushAgain(t *testing.T) {
	var p *Push
	ready := make(chan struct{})
	d := &doveadm{}
	d.answer = func(n int, tags []string) (int, string) {
		<-ready
		if n == 1 {
			p.Revoke("ann@example.org")
		}
		return 200, done(tags)
	}
	p = runPush(t, time.Nanosecond, d)
	close(ready)
	p.Revoke("ann@example.org")
	until(t, "confirmed", func() bool { return p.State()[0].Confirmed() })
	if got := len(d.orders); got != 4 {
		t.Errorf("%d orders, want two, and two for the second revocation", got)
	}
}

func TestPushMany(t *testing.T) {
	d := &doveadm{}
	p := runPush(t, time.Nanosecond, d)
	var users []string
	for i := range 3*maxBatch + 1 {
		users = append(users, fmt.Sprintf("u%03d@example.org", i))
	}
	p.Revoke(users...)
	until(t, "confirmed", func() bool { return p.State()[0].Confirmed() })
	seen := map[string]bool{}
	for len(d.orders) > 0 {
		for _, word := range strings.Fields(<-d.orders) {
			seen[word] = true
		}
	}
	for _, user := range users {
		if !seen["kickmap[mask:["+user+"]]"] {
			t.Errorf("%s was not kicked", user)
		}
	}
}
