package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/authserver"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

func TestTokenAnswer(t *testing.T) {
	b := newBench(t)
	got := b.post("/token", codeForm(b.allow(authQuery("scope", "imap smtp contacts offline_access"))))
	if got.status != http.StatusOK || got.header.Get("Cache-Control") != "no-store" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %v", got.status, got.header)
	}
	body := got.json(t)
	if body["token_type"] != "Bearer" || body["expires_in"] != 3600.0 || body["scope"] != "imap smtp offline_access" {
		t.Errorf("got scope %v, type %v, expires_in %v", body["scope"], body["token_type"], body["expires_in"])
	}
	for member, prefix := range map[string]string{"access_token": "llat_", "refresh_token": "llrt_"} {
		token, _ := body[member].(string)
		if !strings.HasPrefix(token, prefix) || len(token) != 48 {
			t.Errorf("%s has %d bytes, want 48 with %s in front", member, len(token), prefix)
		}
	}
}

// TestOnlyDigestsAtRest: a stolen store or log signs nobody in.
func TestOnlyDigestsAtRest(t *testing.T) {
	b := newBench(t)
	code := b.allow(authQuery())
	got := b.post("/token", codeForm(code))
	first := got.text(t, "refresh_token")
	next := b.post("/token", refreshForm(first))
	device, userCode := b.startDevice()
	dump := b.store.Dump()
	for name, text := range map[string]string{
		"code": code, "access token": got.text(t, "access_token"), "spent refresh token": first,
		"successor": next.text(t, "refresh_token"), "device code": device, "user code": userCode, "verifier": verifier,
	} {
		if text == "" || strings.Contains(dump, text) || strings.Contains(b.log.String(), text) {
			t.Errorf("the %s is empty, in the store or in the log", name)
		}
	}
}

func TestCodeAttacks(t *testing.T) {
	for name, c := range map[string]struct {
		changes []string
		code    string
		burnt   bool // the code is worth nothing afterwards
	}{
		"wrong verifier":      {[]string{"code_verifier", strings.Repeat("a", 43)}, "invalid_grant", true},
		"challenge as proof":  {[]string{"code_verifier", challenge(verifier)}, "invalid_grant", true},
		"verifier too short":  {[]string{"code_verifier", "short"}, "invalid_grant", true},
		"verifier too long":   {[]string{"code_verifier", strings.Repeat("a", 129)}, "invalid_grant", true},
		"another client":      {[]string{"client_id", "other"}, "invalid_grant", true},
		"another port":        {[]string{"redirect_uri", "http://127.0.0.1:4712/cb"}, "invalid_grant", true},
		"another redirect":    {[]string{"redirect_uri", "https://app.example/cb?x=1"}, "invalid_grant", true},
		"no verifier":         {[]string{"code_verifier", ""}, "invalid_request", false},
		"no redirect":         {[]string{"redirect_uri", ""}, "invalid_request", false},
		"no client":           {[]string{"client_id", ""}, "invalid_client", false},
		"unknown client":      {[]string{"client_id", "nobody"}, "invalid_client", false},
		"a secret for public": {[]string{"client_secret", "guess"}, "invalid_client", false},
		"client without it":   {[]string{"client_id", "poor"}, "unauthorized_client", false},
		"code as refresh":     {[]string{"grant_type", "refresh_token"}, "invalid_request", false},
		"unknown grant":       {[]string{"grant_type", "password"}, "unsupported_grant_type", false},
		"no grant":            {[]string{"grant_type", ""}, "invalid_request", false},
		"another code":        {[]string{"code", "llac_" + strings.Repeat("A", 43)}, "invalid_grant", false},
		"a code of no form":   {[]string{"code", "x"}, "invalid_grant", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			code := b.allow(authQuery())
			b.wantError(b.post("/token", codeForm(code, c.changes...)), 400, c.code)
			if after := b.post("/token", codeForm(code)); (after.status == http.StatusOK) == c.burnt {
				t.Errorf("the right request afterwards got %d, code burnt: want %v", after.status, c.burnt)
			}
		})
	}
}

func TestCodeReplayEndsTheFamily(t *testing.T) {
	b := newBench(t)
	code := b.allow(authQuery())
	got := b.post("/token", codeForm(code))
	access, refresh := got.text(t, "access_token"), got.text(t, "refresh_token")
	b.wantError(b.post("/token", codeForm(code)), 400, "invalid_grant")
	if b.active(access) {
		t.Error("the access token lives on")
	}
	b.wantError(b.post("/token", refreshForm(refresh)), 400, "invalid_grant")
}

func TestCodeRace(t *testing.T) {
	b := newBench(t)
	code := b.allow(authQuery())
	var mu sync.Mutex
	var tokens []string
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if got := b.post("/token", codeForm(code)); got.status == http.StatusOK {
				mu.Lock()
				defer mu.Unlock()
				tokens = append(tokens, got.text(t, "access_token"))
			}
		})
	}
	group.Wait()
	if len(tokens) > 1 {
		t.Errorf("one code gave %d tokens", len(tokens))
	}
	for _, token := range tokens {
		if b.active(token) {
			t.Error("a code was used eight times and its token lives on")
		}
	}
}

func TestCodeExpires(t *testing.T) {
	b := newBench(t)
	code := b.allow(authQuery())
	b.clock.forward(time.Minute)
	b.wantError(b.post("/token", codeForm(code)), 400, "invalid_grant")
}

func TestRefreshRotates(t *testing.T) {
	b := newBench(t)
	access, first := b.tokens()
	got := b.post("/token", refreshForm(first))
	second := got.text(t, "refresh_token")
	if second == first || got.text(t, "access_token") == access || !b.active(got.text(t, "access_token")) || !b.active(access) {
		t.Error("want new tokens that work beside the old access token")
	}
	b.clock.forward(time.Hour)
	if b.active(access) {
		t.Error("an access token lives longer than its hour")
	}
	if third := b.post("/token", refreshForm(second)); third.status != http.StatusOK {
		t.Errorf("second rotation: %d", third.status)
	}
}

func TestRefreshGrace(t *testing.T) {
	b := newBench(t)
	_, first := b.tokens()
	second := b.post("/token", refreshForm(first)).text(t, "refresh_token")
	b.clock.forward(time.Minute)
	again := b.post("/token", refreshForm(first))
	if again.status != http.StatusOK || again.text(t, "refresh_token") != second {
		t.Fatalf("in the grace time: %d, the same successor: %v", again.status, again.text(t, "refresh_token") == second)
	}
	if !b.active(again.text(t, "access_token")) {
		t.Error("the access token of the race does not work")
	}
	// A use within the grace time does not renew it.
	b.clock.forward(time.Second)
	b.wantError(b.post("/token", refreshForm(first)), 400, "invalid_grant")
	b.wantError(b.post("/token", refreshForm(second)), 400, "invalid_grant")
	if b.active(again.text(t, "access_token")) {
		t.Error("a refresh token was replayed and its family lives on")
	}
}

func TestRefreshRace(t *testing.T) {
	b := newBench(t)
	_, first := b.tokens()
	var mu sync.Mutex
	successors := map[string]int{}
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			got := b.post("/token", refreshForm(first))
			mu.Lock()
			defer mu.Unlock()
			successors[got.text(t, "refresh_token")]++
		})
	}
	group.Wait()
	if len(successors) != 1 || successors[""] != 0 {
		t.Errorf("16 refreshes at once gave %d different answers, want one", len(successors))
	}
}

func TestRefreshAttacks(t *testing.T) {
	for name, c := range map[string]struct {
		changes []string
		wait    time.Duration
		code    string
	}{
		"another client":   {[]string{"client_id", "other"}, 0, "invalid_grant"},
		"more scope":       {[]string{"scope", "imap pop3"}, 0, "invalid_scope"},
		"whole mail":       {[]string{"scope", authserver.ScopeMail}, 0, "invalid_scope"},
		"no mail scope":    {[]string{"scope", "offline_access"}, 0, "invalid_scope"},
		"expired":          {nil, 91 * 24 * time.Hour, "invalid_grant"},
		"unknown token":    {[]string{"refresh_token", "llrt_" + strings.Repeat("A", 43)}, 0, "invalid_grant"},
		"an access token":  {[]string{"refresh_token", "llat_" + strings.Repeat("A", 43)}, 0, "invalid_grant"},
		"no token":         {[]string{"refresh_token", ""}, 0, "invalid_request"},
		"client may not":   {[]string{"client_id", "poor"}, 0, "unauthorized_client"},
		"a secret as well": {[]string{"client_secret", "x"}, 0, "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			_, token := b.tokens()
			b.clock.forward(c.wait)
			b.wantError(b.post("/token", refreshForm(token, c.changes...)), 400, c.code)
			if c.wait == 0 {
				if after := b.post("/token", refreshForm(token)); after.status != http.StatusOK {
					t.Errorf("a refused request cost the client its token: %d %s", after.status, after.body)
				}
			}
		})
	}
}

func TestRefreshNarrows(t *testing.T) {
	b := newBench(t)
	_, first := b.tokens("scope", authserver.ScopeMail+" offline_access")
	got := b.post("/token", refreshForm(first, "scope", "smtp"))
	if scope := b.introspect(got.text(t, "access_token")).text(t, "scope"); scope != "smtp" {
		t.Errorf("narrowed token has %q", scope)
	}
	// RFC 6749 section 6: the refresh token keeps what was granted.
	got = b.post("/token", refreshForm(got.text(t, "refresh_token"), "scope", "imap"))
	if scope := b.introspect(got.text(t, "access_token")).text(t, "scope"); scope != "imap" {
		t.Errorf("next token has %q", scope)
	}
}

func TestSendOnlyChosenByThePerson(t *testing.T) {
	b := newBench(t)
	got := b.post("/token", codeForm(b.allow(authQuery("scope", "imap smtp offline_access"), "limit", "send-only")))
	if scope := got.text(t, "scope"); scope != "send-only offline_access" {
		t.Errorf("granted %q", scope)
	}
	if scope := b.introspect(got.text(t, "access_token")).text(t, "scope"); scope != "send-only smtp" {
		t.Errorf("a mail server sees %q", scope)
	}
	b.wantError(b.post("/token", refreshForm(got.text(t, "refresh_token"), "scope", "imap")), 400, "invalid_scope")
}

func TestSendOnlyAskedFor(t *testing.T) {
	b := newBench(t)
	// With anything else beside it the narrow scope wins: it is a limit.
	got := b.post("/token", codeForm(b.allow(authQuery("scope", "imap smtp send-only offline_access"))))
	if scope := got.text(t, "scope"); scope != "send-only offline_access" {
		t.Errorf("granted %q", scope)
	}
}

func TestDisabledPersonGetsNothing(t *testing.T) {
	b := newBench(t)
	access, refresh := b.tokens()
	code := b.allow(authQuery())
	b.store.PutPerson(identity.Person{ID: "p1", Address: "you@try.test", Disabled: b.clock.Now()})
	if b.active(access) {
		t.Error("the access token lives on")
	}
	b.wantError(b.post("/token", refreshForm(refresh)), 400, "invalid_grant")
	b.wantError(b.post("/token", codeForm(code)), 400, "invalid_grant")
}

// TestProgramEndpointsAreStrict: what two parsers may read differently is refused.
func TestProgramEndpointsAreStrict(t *testing.T) {
	b := newBench(t)
	_, refresh := b.tokens()
	good := refreshForm(refresh).Encode()
	for name, c := range map[string]struct {
		path, body, contentType string
		status                  int
		code                    string
	}{
		"parameter twice":    {"/token", good + "&client_id=mutt", "", 400, "invalid_request"},
		"twice, one empty":   {"/token", good + "&client_id=", "", 400, "invalid_request"},
		"query":              {"/token?client_id=mutt", good, "", 400, "invalid_request"},
		"JSON":               {"/token", `{"grant_type":"refresh_token"}`, "application/json", 400, "invalid_request"},
		"multipart":          {"/token", good, "multipart/form-data; boundary=x", 400, "invalid_request"},
		"long":               {"/token", good + "&x=" + strings.Repeat("x", 70<<10), "", 400, "invalid_request"},
		"control character":  {"/token", good + "&x=%00", "", 400, "invalid_request"},
		"device, no client":  {"/device_authorization", "scope=imap", "", 400, "invalid_client"},
		"device, bad scope":  {"/device_authorization", "client_id=mutt&scope=x", "", 400, "invalid_scope"},
		"device, may not":    {"/device_authorization", "client_id=poor", "", 400, "unauthorized_client"},
		"revoke, no token":   {"/revoke", "client_id=mutt", "", 400, "invalid_request"},
		"revoke, no client":  {"/revoke", "token=" + refresh, "", 400, "invalid_client"},
		"introspect, nobody": {"/introspect", "token=" + refresh, "", 401, "invalid_client"},
	} {
		contentType := c.contentType
		if contentType == "" {
			contentType = "application/x-www-form-urlencoded"
		}
		got := b.postRaw(http.DefaultClient, c.path, c.body, "Content-Type", contentType)
		if got.status != c.status || got.text(t, "error") != c.code {
			t.Errorf("%s: got %d %s, want %d %s", name, got.status, got.body, c.status, c.code)
		}
	}
	got := b.postRaw(http.DefaultClient, "/token", good, "Authorization", "Basic bXV0dDo=")
	if got.status != 401 || got.header.Get("WWW-Authenticate") == "" {
		t.Errorf("HTTP authentication of a public client: %d, want 401 with a challenge", got.status)
	}
	if got := b.get(http.DefaultClient, "/token?"+good); got.status != http.StatusMethodNotAllowed {
		t.Errorf("token by GET: %d", got.status)
	}
	if after := b.post("/token", refreshForm(refresh)); after.status != http.StatusOK {
		t.Errorf("the refused requests cost the client its token: %d", after.status)
	}
}

func TestIntrospection(t *testing.T) {
	b := newBench(t)
	access, refresh := b.tokens("scope", authserver.ScopeMail)
	got := b.introspect(access).json(t)
	for member, want := range map[string]any{
		"active": true, "username": "you@try.test", "sub": "p1", "aud": "mail", "iss": b.url, "client_id": "mutt", "token_type": "Bearer",
		"scope": authserver.ScopeMail + " imap pop3 smtp sieve", "exp": float64(b.clock.Now().Add(time.Hour).Unix()), "iat": float64(b.clock.Now().Unix()),
	} {
		if got[member] != want {
			t.Errorf("%s: got %v, want %v", member, got[member], want)
		}
	}
	sendOnly, _ := b.tokens("scope", "send-only")
	revoked, revokedRefresh := b.tokens()
	b.post("/revoke", url.Values{"client_id": {"mutt"}, "token": {revokedRefresh}})
	for name, a := range map[string]answer{
		"unknown":         b.introspect("llat_" + strings.Repeat("A", 43)),
		"no form":         b.introspect("eyJhbGciOiJub25lIn0.e30."),
		"empty":           b.introspect(""),
		"refresh token":   b.introspect(refresh),
		"revoked":         b.introspect(revoked),
		"another's scope": b.introspectAs("imaponly", sendOnly),
	} {
		wantInactive(t, name, a)
	}
	b.clock.forward(time.Hour)
	wantInactive(t, "expired", b.introspect(access))
}

// wantInactive: a user name beside a no is a yes to Dovecot.
func wantInactive(t *testing.T, name string, a answer) {
	t.Helper()
	if a.status != http.StatusOK || strings.TrimSpace(a.body) != `{"active":false}` {
		t.Errorf("%s: got %d %s, want exactly {\"active\":false}", name, a.status, a.body)
	}
}

func TestIntrospectionCallers(t *testing.T) {
	b := newBench(t)
	access, _ := b.tokens()
	// Dovecot 2.3 sends an empty pair beside HTTP Basic.
	got := b.postRaw(http.DefaultClient, "/introspect", "token="+access+"&client_id=&client_secret=", "Authorization", "Basic ZG92ZWNvdDpycy1zZWNyZXQ=")
	if got.json(t)["active"] != true {
		t.Errorf("Dovecot's form: %d %s", got.status, got.body)
	}
	got = b.post("/introspect", url.Values{"token": {access}, "client_id": {"dovecot"}, "client_secret": {"rs-secret"}})
	if got.json(t)["active"] != true {
		t.Errorf("the secret in the body: %d %s", got.status, got.body)
	}
	got = b.postRaw(http.DefaultClient, "/introspect", "token="+access+"&client_id=dovecot&client_secret=rs-secret", "Authorization", "Basic ZG92ZWNvdDpycy1zZWNyZXQ=")
	if got.status != http.StatusUnauthorized {
		t.Errorf("two methods at once: %d", got.status)
	}
	for _, form := range []string{"&client_id=dovecot", "&client_id=dovecot&client_secret=", "&client_id=dovecot&client_secret=wrong", "&client_secret=rs-secret", "&client_id=mutt&client_secret=rs-secret"} {
		if got := b.postRaw(http.DefaultClient, "/introspect", "token="+access+form); got.status != http.StatusUnauthorized || strings.Contains(got.body, "active") {
			t.Errorf("%s: got %d %s", form, got.status, got.body)
		}
	}
	for name, header := range map[string]string{
		"none": "", "wrong secret": "Basic ZG92ZWNvdDp3cm9uZw==", "unknown": "Basic bm9ib2R5OnJzLXNlY3JldA==",
		"the token itself": "Bearer " + access, "garbage": "Basic !!!",
	} {
		got := b.postRaw(http.DefaultClient, "/introspect", "token="+access, "Authorization", header)
		if got.status != http.StatusUnauthorized || strings.Contains(got.body, "active") {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
	}
}

func TestRevocation(t *testing.T) {
	b := newBench(t)
	access, refresh := b.tokens()
	revoke := func(client, token string) answer {
		return b.post("/revoke", url.Values{"client_id": {client}, "token": {token}, "token_type_hint": {"nonsense"}})
	}
	b.wantError(revoke("other", access), 400, "invalid_grant")
	b.wantError(revoke("other", refresh), 400, "invalid_grant")
	if !b.active(access) {
		t.Fatal("another client revoked the token")
	}
	for _, token := range []string{"", "x", "llat_" + strings.Repeat("A", 43)} {
		if got := revoke("mutt", token); token != "" && got.status != http.StatusOK {
			t.Errorf("unknown token %q: %d", token, got.status)
		}
	}
	if got := revoke("mutt", access); got.status != http.StatusOK || b.active(access) {
		t.Errorf("access token: %d, active %v", got.status, b.active(access))
	}
	next := b.post("/token", refreshForm(refresh))
	if next.status != http.StatusOK {
		t.Fatalf("the refresh token went with its access token: %d", next.status)
	}
	if got := revoke("mutt", refresh); got.status != http.StatusOK { // a spent one will do
		t.Errorf("refresh token: %d", got.status)
	}
	if b.active(next.text(t, "access_token")) {
		t.Error("the family outlived its refresh token")
	}
	b.wantError(b.post("/token", refreshForm(next.text(t, "refresh_token"))), 400, "invalid_grant")
}
