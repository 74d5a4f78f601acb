package doctor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const recipeAgain = "letterlockd config dovecot --write --config-dir @folder@@flags@ && doveadm@c@ reload"

// dovecotTraps are the rows about Dovecot 2.3.
func dovecotTraps() []trap[*dovecotFacts] {
	return []trap[*dovecotFacts]{
		{id: "dovecot-version", level: Warning, why: "2.3 is what was run; the settings of 2.4 have other names, and these rows do not know them",
			look: func(_ context.Context, f *dovecotFacts) []sighting { return known(f.version, "2.3", "2.3") }},
		{id: "dovecot-not-asking", level: Wrong, why: "app passwords or tokens do not work", mend: recipeAgain, look: notAsking},
		{id: "dovecot-not-first", level: Wrong, why: "a secret of ours counts as a wrong password at the one before, and locks the person out there", mend: recipeAgain, look: notFirst},
		{id: "dovecot-empty-password", level: Wrong, why: "one empty password from anybody ends the authentication process (before 2.3.21)", mend: recipeAgain, look: emptyPassword},
		{id: "dovecot-pgsql-beside", level: Wrong, why: "the authentication process of 2.3.19 ends in a failed assertion with both",
			mend: "keep one of the two: letterlockd's HTTP endpoints, or SQL alone", look: pgsqlBeside},
		{id: "dovecot-active", level: Wrong, why: "an answer without a yes is taken for a yes", mend: recipeAgain, look: file(func(_ *dovecotFacts, p passdb) string {
			if _, asks := p.ext["introspection_url"]; !asks {
				return ""
			}
			return unless(p.ext["active_attribute"] != "" && p.ext["active_value"] != "", "active_attribute or active_value is not set")
		})},
		{id: "dovecot-timeout", level: Wrong, why: "without a limit one slow answer holds a login for ever", mend: recipeAgain, look: file(func(_ *dovecotFacts, p passdb) string {
			return unless(number(p.ext["timeout_msecs"], 0) > 0, "timeout_msecs is "+quoted(p.ext["timeout_msecs"]))
		})},
		{id: "dovecot-parallel", level: Warning, why: "ten slow answers hold up everybody's login", mend: recipeAgain, look: file(func(_ *dovecotFacts, p passdb) string {
			return unless(number(p.ext["max_parallel_connections"], 10) > 10, fmt.Sprintf("max_parallel_connections is %d", number(p.ext["max_parallel_connections"], 10)))
		})},
		{id: "dovecot-headers", level: Wrong, why: "letterlockd does not learn protocol and address, and refuses", mend: recipeAgain, look: file(func(f *dovecotFacts, p passdb) string {
			return unless(!f.ours(p) || p.ext["send_auth_headers"] == "yes", "send_auth_headers is off")
		})},
		{id: "dovecot-mechanisms", level: Wrong, why: "clients are not offered what they would sign in by", mend: recipeAgain, look: mechanisms},
		{id: "dovecot-username-chars", level: Wrong, why: "without a list of characters a name reaches the queries of SQL as it is (CVE-2026-24031)", mend: recipeAgain,
			look: func(_ context.Context, f *dovecotFacts) []sighting {
				return global(f.root.get("auth_username_chars", "default") != "", "auth_username_chars is empty")
			}},
		{id: "dovecot-label", level: Wrong, why: "user+label@domain, the login name of one app password, is refused", mend: recipeAgain,
			look: func(_ context.Context, f *dovecotFacts) []sighting {
				chars := f.root.get("auth_username_chars", "default")
				return global(chars == "" || strings.Contains(chars, "+"), "auth_username_chars lacks +")
			}},
		{id: "dovecot-cache", level: Warning, why: "a token that has run out, or that a node was not told of, lives on for auth_cache_ttl",
			mend: "set auth_cache_size = 0 in @conf@/local.conf or where it is set, then: doveadm@c@ reload", look: cache},
		{id: "dovecot-plaintext", level: Wrong, why: "passwords and tokens cross the network in the clear",
			mend: "set disable_plaintext_auth = yes and ssl = required where they are set, then: doveadm@c@ reload", look: plaintext},
		{id: "dovecot-penalty", level: Warning, why: "Dovecot slows by address: one stale password slows everybody behind the web mail",
			mend: "add the web mail's address to login_trusted_networks, then: doveadm@c@ reload", look: penalty},
		{id: "dovecot-haproxy", level: Wrong, why: "without haproxy_trusted_networks each connection at that listener is refused",
			mend: "set haproxy_trusted_networks to the proxy's address, then: doveadm@c@ reload", look: haproxy},
		{id: "dovecot-secret", level: Wrong, live: true, why: "no login by app password or token works while letterlockd does not know who asks",
			mend: recipeAgain, look: askEndpoints},
		{id: "dovecot-doveadm", level: Wrong, live: true, why: "a revocation does not reach this node: open sessions go on",
			mend: recipeAgain, look: askNodes},
		{id: "dovecot-sql-query", level: Wrong, why: "another question gets other people in, or none", mend: recipeAgain, look: otherQuery},
		{id: "dovecot-sql-view", level: Wrong, live: true, why: "no app password signs in by SQL",
			mend: "letterlockd migrate --dovecot-role dovecot, or look at view_file of [database]; then: " + recipeAgain, look: askView},
	}
}

func global(good bool, what string) []sighting {
	if good {
		return nil
	}
	return []sighting{{where: "dovecot.conf", what: what}}
}

// file looks at the file of each oauth2 passdb.
func file(look func(*dovecotFacts, passdb) string) func(context.Context, *dovecotFacts) []sighting {
	return func(_ context.Context, f *dovecotFacts) []sighting {
		var seen []sighting
		for _, p := range f.passdbs {
			if p.get("driver", "") != "oauth2" {
				continue
			}
			if p.err != nil {
				seen = append(seen, sighting{where: p.file, level: Skipped, what: p.err.Error()})
			} else if what := look(f, p); what != "" {
				seen = append(seen, sighting{where: p.file, what: what})
			}
		}
		return seen
	}
}

// number reads a number, and returns otherwise for none.
func number(text string, otherwise int) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return otherwise
	}
	return n
}

// unread are the passdbs whose file only root may read.
func (f *dovecotFacts) unread() []sighting {
	for _, p := range f.passdbs {
		if p.err != nil {
			return []sighting{{where: p.file, level: Skipped, what: p.err.Error()}}
		}
	}
	return nil
}

func notAsking(_ context.Context, f *dovecotFacts) []sighting {
	if f.bySQL() {
		return nil // dovecot-sql-query tells
	}
	var missing []string
	for _, way := range []struct{ setting, what string }{{"introspection_url", "tokens"}, {"grant_url", "passwords"}} {
		if !slices.ContainsFunc(f.asking(), func(p passdb) bool { return p.ext[way.setting] != "" }) {
			missing = append(missing, way.what)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if unread := f.unread(); unread != nil {
		return unread
	}
	return []sighting{{where: "passdb", what: "no passdb asks letterlockd about " + strings.Join(missing, " and ")}}
}

func notFirst(_ context.Context, f *dovecotFacts) []sighting {
	if len(f.asking()) == 0 {
		return f.unread()
	}
	var seen []sighting
	for _, mechanism := range []string{"plain", "oauthbearer"} {
		last := -1 // the last of ours that is asked about it
		for i, p := range f.passdbs {
			if f.ours(p) && p.serves(mechanism) {
				last = i
			}
		}
		for i, p := range f.passdbs {
			if i < last && !f.ours(p) && !p.guard() && p.serves(mechanism) {
				seen = append(seen, sighting{where: "passdb", what: fmt.Sprintf("a passdb with driver = %s is asked about %s before ours", p.get("driver", ""), strings.ToUpper(mechanism))})
			}
		}
	}
	return seen
}

// before reports whether the version is older than 2.3.n.
func before(version string, n int) bool {
	parts := strings.Split(version, ".")
	return len(parts) > 2 && parts[0] == "2" && parts[1] == "3" && number(parts[2], 0) < n
}

func emptyPassword(_ context.Context, f *dovecotFacts) []sighting {
	if !before(f.version, 21) {
		return nil
	}
	for _, p := range f.passdbs {
		if p.guard() {
			return nil
		}
		if p.get("driver", "") == "oauth2" && (p.serves("plain") || p.serves("login")) {
			return []sighting{{where: "passdb", what: "an oauth2 passdb is asked about passwords, and no static passdb stands before it"}}
		}
	}
	return nil
}

func pgsqlBeside(_ context.Context, f *dovecotFacts) []sighting {
	oauth, pgsql := false, ""
	for _, p := range f.passdbs {
		oauth = oauth || p.get("driver", "") == "oauth2"
		if p.get("driver", "") == "sql" && p.ext["driver"] == "pgsql" {
			pgsql = p.file
		}
	}
	if !oauth || pgsql == "" || !before(f.version, 21) {
		return nil
	}
	return []sighting{{where: pgsql, what: "a passdb of PostgreSQL beside an oauth2 passdb"}}
}

func mechanisms(_ context.Context, f *dovecotFacts) []sighting {
	offered := words(strings.ToLower(f.root.get("auth_mechanisms", "plain")))
	var missing []string
	for _, p := range f.asking() {
		wanted := []string{"plain", "login"}
		if p.ext["introspection_url"] != "" {
			wanted = []string{"xoauth2", "oauthbearer"}
		}
		for _, one := range wanted {
			if p.serves(one) && !slices.Contains(offered, one) && !slices.Contains(missing, one) {
				missing = append(missing, one)
			}
		}
	}
	return global(len(missing) == 0, "auth_mechanisms lacks "+strings.Join(missing, " "))
}

func cache(_ context.Context, f *dovecotFacts) []sighting {
	size, _, _ := strings.Cut(f.root.get("auth_cache_size", "0"), " ")
	return global(size == "0" || len(f.asking()) == 0, "auth_cache_size is "+size)
}

func plaintext(_ context.Context, f *dovecotFacts) []sighting {
	var seen []sighting
	for _, b := range append([]block{f.root}, f.root.all("protocol", "")...) {
		where := "dovecot.conf"
		if b.kind != "" {
			where = b.kind + " " + b.label
		}
		if b.get("disable_plaintext_auth", "yes") == "no" {
			seen = append(seen, sighting{where: where, what: "disable_plaintext_auth = no"})
		}
		if b.get("ssl", "yes") == "no" {
			seen = append(seen, sighting{where: where, what: "ssl = no"})
		}
	}
	return seen
}

func penalty(_ context.Context, f *dovecotFacts) []sighting {
	for _, anvil := range f.root.all("service", "anvil") {
		for _, listener := range anvil.all("unix_listener", "anvil-auth-penalty") {
			if strings.Trim(listener.get("mode", "0600"), "0") == "" {
				return nil // switched off
			}
		}
	}
	trusted := words(f.root.get("login_trusted_networks", ""))
	var seen []sighting
	for _, network := range f.Webmail {
		bare := strings.TrimSuffix(strings.TrimSuffix(network, "/32"), "/128")
		if !slices.Contains(trusted, network) && !slices.Contains(trusted, bare) {
			seen = append(seen, sighting{where: network, what: "[throttle] allow names it, login_trusted_networks does not"})
		}
	}
	return seen
}

func haproxy(_ context.Context, f *dovecotFacts) []sighting {
	if f.root.get("haproxy_trusted_networks", "") != "" {
		return nil
	}
	var seen []sighting
	for _, service := range f.root.all("service", "") {
		for _, listener := range service.all("inet_listener", "") {
			if listener.get("haproxy", "no") == "yes" {
				seen = append(seen, sighting{where: "service " + service.label, what: "haproxy = yes at " + listener.label})
			}
		}
	}
	return seen
}

// askEndpoints asks letterlockd as Dovecot would, with the secret of each file, about a
// token that cannot be one: a guess would count as one.
func askEndpoints(ctx context.Context, f *dovecotFacts) []sighting {
	var seen []sighting
	for _, p := range f.asking() {
		if err := askEndpoint(ctx, p); err != nil && ctx.Err() == nil {
			seen = append(seen, sighting{where: p.file, what: err.Error()})
		}
	}
	if seen == nil && len(f.asking()) == 0 {
		return f.unread()
	}
	return seen
}

func askEndpoint(ctx context.Context, p passdb) error {
	u, _ := p.endpoint()
	// Both endpoints know the same callers, and the other one wants a password.
	at := u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/password")
	if strings.HasSuffix(u.Path, "/password") {
		at += "/introspect"
	}
	form := url.Values{"token": {""}, "client_id": {p.ext["client_id"]}, "client_secret": {p.secret.Reveal()}}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "X-Dovecot-Auth-Service": {"imap"}}
	status, body, err := post(ctx, at, header, []byte(form.Encode()))
	var answer struct {
		Active *bool `json:"active"`
	}
	switch {
	case err != nil:
		return err
	case status == http.StatusUnauthorized:
		return fmt.Errorf("letterlockd does not take client_id and client_secret of this file")
	case status != http.StatusOK || json.Unmarshal(body, &answer) != nil || answer.Active == nil || *answer.Active:
		return fmt.Errorf("what answers there is not letterlockd (status %d)", status)
	}
	return nil
}

// askNodes gives each node an order that changes nothing.
func askNodes(ctx context.Context, f *dovecotFacts) []sighting {
	var seen []sighting
	for _, n := range f.Nodes {
		header := http.Header{"Content-Type": {"application/json"},
			"Authorization": {"X-Dovecot-API " + base64.StdEncoding.EncodeToString([]byte(n.Key.Reveal()))}}
		status, body, err := post(ctx, n.URL, header, []byte(`[["who",{"mask":["nobody@letterlock.invalid"]},"doctor"]]`))
		what := ""
		switch {
		case err != nil:
			what = err.Error()
		case status == http.StatusUnauthorized, status == http.StatusForbidden:
			what = "the key is refused"
		case status != http.StatusOK || !bytes.Contains(body, []byte(`"doctor"`)):
			what = fmt.Sprintf("what answers there is not doveadm (status %d)", status)
		}
		if what != "" && ctx.Err() == nil {
			seen = append(seen, sighting{where: n.Name, what: what})
		}
	}
	return seen
}

// maxAnswer of an endpoint that is asked.
const maxAnswer = 1 << 20

// post asks without following redirects: a client would take the secret along.
func post(ctx context.Context, at string, header http.Header, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("that is no address")
	}
	request.Header = header
	// Kept open, and closed by us: to "Connection: close" Dovecot 2.3.19 says no word when it
	// refuses the key, and nothing comes until patience ends.
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, nil, plain(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, plain(err)
	}
	return response.StatusCode, answer, nil
}
