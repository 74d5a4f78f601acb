package discovery

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/lab/zone"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// TestHostile is a table of what DNS and web servers may do. Nothing may come of any
// but what stands in want, and where it was not mere absence the reason is told.
func TestHostile(t *testing.T) {
	const login = "https://login.example.org"
	good := map[string]page{"login.example.org" + oidc: metadata(login)}
	with := func(pairs ...any) map[string]page {
		pages := map[string]page{}
		for place, p := range good {
			pages[place] = p
		}
		for i := 0; i < len(pairs); i += 2 {
			pages[pairs[i].(string)] = pairs[i+1].(page)
		}
		return pages
	}
	xml := func(body string) map[string]page { return with(xmlPlace, page{body: body}) }
	pacc := func(body string) (zone.Zone, map[string]page) {
		return zone.Zone{"_ua-auto-config.example.org TXT": {digestOf(body)}}, with(paccPlace, page{body: body})
	}
	laughs := `<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;">]><clientConfig>&lol2;</clientConfig>`
	type hostile struct {
		name  string
		zone  zone.Zone
		pages map[string]page
		wrong []string
		want  []string
		told  string
	}
	tests := []hostile{
		{name: "nothing at all"},
		{name: "DNS in trouble", zone: zone.Zone{"_ua-auto-config.example.org TXT": {"FAIL"}, "example.org MX": {"FAIL"}, "_imaps._tcp.example.org SRV": {"FAIL"}}, told: "srv _imaps._tcp.example.org: "},
		{name: "DNS refuses", zone: zone.Zone{"_imaps._tcp.example.org SRV": {"REFUSED"}}, told: "srv _imaps._tcp.example.org: "},
		{name: "aliases in circles", zone: zone.Zone{"_imaps._tcp.example.org CNAME": {"_imap._tcp.example.org"}, "_imap._tcp.example.org CNAME": {"_imaps._tcp.example.org"}}},
		{name: "decidedly no service", zone: zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 0 ."}, "_imap._tcp.example.org SRV": {"0 0 143 mail.example.org"}},
			want: []string{"imap mail.example.org:143 starttls srv dns"}},
		{name: "SRV to port 0", zone: zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 0 mail.example.org"}}, told: "port 0"},
		{name: "SRV to this machine", zone: zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 993 localhost"}}, told: "this machine or network"},
		{name: "SRV to an address", zone: zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 993 192.168.1.1"}}, told: "an address in place of a host name"},
		{name: "SRV to another domain", zone: zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 993 imap.mallory.example"}}, pages: map[string]page{"imap.mallory.example" + oidc: metadata("https://imap.mallory.example")},
			want: []string{"imap imap.mallory.example:993 tls srv dns in doubt"}},
		{name: "SRV to a name that ends alike", zone: zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 993 evilexample.org"}}, pages: map[string]page{"evilexample.org" + oidc: metadata("https://evilexample.org")},
			want: []string{"imap evilexample.org:993 tls srv dns in doubt"}},
		{name: "SRV without TLS is not believed over TLS", zone: zone.Zone{"_imap._tcp.example.org SRV": {"0 0 143 a.example.org"}, "_imaps._tcp.example.org SRV": {"0 0 993 b.example.org"}},
			want: []string{"imap b.example.org:993 tls srv dns"}},

		{name: "a huge document", pages: xml(xmlDoc("example.org", xmlOAuth(login)) + strings.Repeat(" ", maxDocument)), told: "more than 262144 bytes"},
		{name: "billion laughs", pages: xml(laughs), told: "document type"},
		{name: "an entity from outside", pages: xml(`<!DOCTYPE x SYSTEM "https://mallory.example/x.dtd"><clientConfig/>`), told: "document type"},
		{name: "an unknown entity", pages: xml(`<clientConfig>&secret;</clientConfig>`), told: "an entity that it does not have"},
		{name: "another character set", pages: xml(`<?xml version="1.0" encoding="EBCDIC"?><clientConfig/>`), told: "not in UTF-8"},
		{name: "deep XML", pages: xml("<clientConfig>" + strings.Repeat("<a>", 50) + strings.Repeat("</a>", 50) + "</clientConfig>"), told: "nested too deeply"},
		{name: "many elements", pages: xml("<clientConfig>" + strings.Repeat("<a/>", 3000) + "</clientConfig>"), told: "too many elements"},
		{name: "XML cut off", pages: xml(`<clientConfig><oAuth2><issuer>` + login + `</issuer>`), told: "without one whole root"},
		{name: "a page of HTML", pages: xml("<!doctype html><title>Welcome</title>"), told: "document type"},
		{name: "not XML", pages: xml("hello"), told: "without one whole root"},
		{name: "servers without TLS", pages: xml(xmlDoc("example.org", "", xmlServer("imap", "mail.example.org", 143, "plain"), xmlServer("smtp", "mail.example.org", 25, ""))), told: "no mail server that can be used"},
		{name: "servers that are no hosts", pages: xml(xmlDoc("example.org", "", xmlServer("imap", "127.0.0.1", 993, "SSL"), xmlServer("smtp", "localhost", 465, "SSL"), xmlServer("pop3", "a b.example.org", 995, "SSL"))), told: "no mail server that can be used"},
		{name: "ports that are none", pages: xml(xmlDoc("example.org", "", xmlServer("imap", "mail.example.org", 99999, "SSL"), xmlServer("smtp", "mail.example.org", -1, "SSL"))), told: "no mail server that can be used"},
		{name: "autoconfig of another domain", pages: xml(xmlDoc("mallory.example", xmlOAuth(login), xmlServer("imap", "imap.mallory.example", 993, "SSL"))),
			want: []string{"imap imap.mallory.example:993 tls autoconfig certificate in doubt"}},
		{name: "a redirect to plain http", pages: with(xmlPlace, redirect("http://autoconfig.example.org/x.xml")), told: "redirects to a URL of plain http"},
		{name: "a redirect to a file", pages: with(xmlPlace, redirect("file:///etc/passwd")), told: "redirects to not an https URL"},
		{name: "a redirect to an address", pages: with(xmlPlace, redirect("https://169.254.169.254/latest")), told: "redirects to an address in place of a host name"},
		{name: "a redirect to a name and password", pages: with(xmlPlace, redirect("https://u:p@www.example.org/")), told: "redirects to a URL with a user name"},
		{name: "a redirect to another domain", pages: with(xmlPlace, redirect("https://mallory.example/x.xml"), "mallory.example/x.xml", page{body: xmlDoc("example.org", xmlOAuth("https://mallory.example"), xmlServer("imap", "mail.example.org", 993, "SSL"))}, "mallory.example"+oidc, metadata("https://mallory.example")),
			want: []string{"imap mail.example.org:993 tls autoconfig certificate in doubt"}},
		{name: "a redirect to another domain and back", pages: with(xmlPlace, redirect("https://mallory.example/x"), "mallory.example/x", redirect("https://www.example.org/x.xml"), "www.example.org/x.xml", page{body: xmlDoc("example.org", "", xmlServer("imap", "mail.example.org", 993, "SSL"))}),
			want: []string{"imap mail.example.org:993 tls autoconfig certificate in doubt"}},
		{name: "redirects in circles", pages: with(xmlPlace, redirect("https://www.example.org/a"), "www.example.org/a", redirect("https://www.example.org/b"), "www.example.org/b", redirect("https://www.example.org/a")), told: "go in circles"},
		{name: "many redirects", pages: with(xmlPlace, redirect("https://www.example.org/1"), "www.example.org/1", redirect("/2"), "www.example.org/2", redirect("/3"), "www.example.org/3", redirect("/4"), "www.example.org/4", page{body: xmlDoc("example.org", xmlOAuth(login))}), told: "redirects more than 3 times"},
		{name: "a certificate for another name", pages: xml(xmlDoc("example.org", xmlOAuth(login))), wrong: []string{"autoconfig.example.org"}, told: "certificate"},
		{name: "an issuer with a certificate for another name", pages: xml(xmlDoc("example.org", xmlOAuth(login))), wrong: []string{"login.example.org"}, told: "certificate"},
		{name: "a server in trouble", pages: with(xmlPlace, page{status: 503}), told: "answered 503"},

		{name: "an issuer that calls itself another", pages: with(xmlPlace, page{body: xmlDoc("example.org", xmlOAuth("https://id.example.org"))}, "id.example.org"+oidc, metadata(login)), told: "names another issuer"},
		{name: "an issuer that differs by a slash", pages: with(xmlPlace, page{body: xmlDoc("example.org", xmlOAuth("https://id.example.org/"))}, "id.example.org"+oidc, metadata("https://id.example.org")), told: "names another issuer"},
		{name: "an issuer of plain http", pages: xml(xmlDoc("example.org", xmlOAuth("http://login.example.org"))), told: "a URL of plain http"},
		{name: "an issuer on this machine", pages: xml(xmlDoc("example.org", xmlOAuth("https://localhost:8080"))), told: "this machine or network"},
		{name: "an issuer with a template", pages: with(xmlPlace, page{body: xmlDoc("example.org", xmlOAuth("https://id.example.org/any/v2"))}, "id.example.org/any/v2"+oidc, page{body: strings.ReplaceAll(metadata("https://id.example.org/any/v2").body, `"issuer":"https://id.example.org/any/v2"`, `"issuer":"https://id.example.org/{tenantid}/v2"`)}), told: "for certain"},
		{name: "an issuer that redirects", pages: with(xmlPlace, page{body: xmlDoc("example.org", xmlOAuth("https://id.example.org"))}, "id.example.org"+oidc, redirect(login+oidc)), told: "redirect"},
		{name: "an issuer without PKCE", pages: with(xmlPlace, page{body: xmlDoc("example.org", xmlOAuth("https://id.example.org"))}, "id.example.org"+oidc, metadata("https://id.example.org", func(m map[string]any) { m["code_challenge_methods_supported"] = []string{"plain"} })), told: "PKCE"},
		{name: "an issuer with endpoints of plain http", pages: with(xmlPlace, page{body: xmlDoc("example.org", xmlOAuth("https://id.example.org"))}, "id.example.org"+oidc, metadata("https://id.example.org", func(m map[string]any) { m["token_endpoint"] = "http://127.0.0.1/token" })), told: "token_endpoint: plain http"},

		{name: "PACC without a digest", zone: zone.Zone{"_ua-auto-config.example.org TXT": {"v=UAAC1; a=md5; d=AAAA", "hello"}}, pages: with(paccPlace, page{body: paccDoc(login)})},
		{name: "PACC with another digest", zone: zone.Zone{"_ua-auto-config.example.org TXT": {digestOf("something else")}}, pages: with(paccPlace, page{body: paccDoc(login)}), told: "digest is not the one in DNS"},
		{name: "PACC that redirects", zone: zone.Zone{"_ua-auto-config.example.org TXT": {digestOf(paccDoc(login))}}, pages: with(paccPlace, redirect("https://www.example.org/x"), "www.example.org/x", page{body: paccDoc(login)}), told: "redirects more than 0 times"},
	}
	for name, body := range map[string]string{
		"PACC that is no JSON": "<html>", "PACC that nests deeply": strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"PACC that names a member twice": `{"protocols":{"imap":{"host":"a.example.org","host":"b.example.org"}}}`,
		"PACC with an address":           `{"protocols":{"imap":{"host":"10.0.0.1"}}}`, "PACC with nothing in it": `{"protocols":{}}`,
	} {
		z, pages := pacc(body)
		tests = append(tests, hostile{name: name, zone: z, pages: pages, told: "pacc https://ua-auto-config.example.org"})
	}
	srv := zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 993 mail.example.org"}}
	for name, body := range map[string]string{
		"a resource of another host": `{"resource":"https://mail.mallory.example","authorization_servers":["` + login + `"],"scopes_supported":["imap"]}`,
		"a resource without servers": `{"resource":"https://mail.example.org"}`, "a resource that is no JSON": "imap",
		"a resource of this machine": `{"resource":"https://mail.example.org","authorization_servers":["https://127.0.0.1"],"scopes_supported":["imap"]}`,
	} {
		tests = append(tests, hostile{name: name, zone: srv, pages: with("mail.example.org"+resource, page{body: body}), told: "protected-resource https://mail.example.org", want: []string{"imap mail.example.org:993 tls srv dns"}})
	}
	shop := metadata("https://example.org", func(m map[string]any) { m["scopes_supported"] = []string{"openid", "shop"} })
	tests = append(tests, hostile{name: "an authorization server for other things", zone: srv, pages: with("example.org"+oidc, shop), told: "knows no scope for mail", want: []string{"imap mail.example.org:993 tls srv dns"}})

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, f := newWorld(t, test.zone, test.pages, test.wrong...)
			r, err := f.Find(t.Context(), "ann@example.org")
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(r); !slices.Equal(got, test.want) {
				t.Errorf("found\n%s\nwant\n%s\ncomplaints:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"), complaints(r))
			}
			if told := complaints(r); !strings.Contains(told, test.told) || test.told == "" && told != "" {
				t.Errorf("complaints:\n%swant among them: %q", told, test.told)
			}
		})
	}
}

// TestNo: a person who says no is asked once, and nothing in doubt is spoken to.
func TestNo(t *testing.T) {
	w, f := newWorld(t, zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 993 imap.mallory.example"}},
		map[string]page{"imap.mallory.example" + oidc: metadata("https://imap.mallory.example")})
	asked := 0
	f.Confirm = func(context.Context, []string) (bool, error) { asked++; return false, nil }
	f.Ask = func(context.Context, provider.MailServer, string) (string, error) {
		t.Error("a token was presented to a server in doubt")
		return "", nil
	}
	r, err := f.Find(t.Context(), "ann@example.org")
	if err != nil || r.Issuer != nil || asked != 1 || r.Servers[IMAP].Doubt == "" {
		t.Errorf("%v, %v, asked %d times", err, describe(r), asked)
	}
	for _, place := range w.asked {
		if strings.Contains(place, "mallory") {
			t.Errorf("%s was asked", place)
		}
	}
	gone := errors.New("the terminal went away")
	f.Confirm = func(context.Context, []string) (bool, error) { return true, gone }
	if _, err := f.Find(t.Context(), "ann@example.org"); !errors.Is(err, gone) {
		t.Errorf("%v, want the person's error", err)
	}
}

// TestChallenges: what a mail server may answer an empty token with.
func TestChallenges(t *testing.T) {
	_, f := newWorld(t, zone.Zone{"_imaps._tcp.example.org SRV": {"0 0 993 mail.example.org"}},
		map[string]page{"login.example.org" + oidc: metadata("https://elsewhere.example.org")})
	for answer, told := range map[string]string{
		"http://login.example.org" + oidc:           "plain http",
		"https://login.example.org" + oidc:          "names another issuer",
		"https://login.example.org/":                "not the address of an issuer's metadata",
		"https://login.example.org" + oidc + "?x":   "with a query",
		"https://localhost" + oidc:                  "this machine",
		"javascript:alert(1)":                       "not an https URL",
		"https://login.example.org" + rfc8414 + "x": "not the address",
		strings.Repeat("a", 5000):                   "more than 2048",
	} {
		f.Ask = func(context.Context, provider.MailServer, string) (string, error) { return answer, nil }
		r, err := f.Find(t.Context(), "ann@example.org")
		if err != nil || r.Issuer != nil || !strings.Contains(complaints(r), told) {
			t.Errorf("%.60s: %v, %v\n%swant %q", answer, err, describe(r), complaints(r), told)
		}
	}
}

// TestSlow: a server that drips, and a DNS server that is silent, cost the time allowed.
func TestSlow(t *testing.T) {
	_, f := newWorld(t, nil, map[string]page{xmlPlace: {drip: true}})
	f.Timeout = 300 * time.Millisecond
	f.DNS = &dnsask.Client{Servers: []string{zone.Serve(t, dns.HandlerFunc(func(dns.ResponseWriter, *dns.Msg) {}))}, Timeout: time.Hour}
	begin := time.Now()
	r, err := f.Find(t.Context(), "ann@example.org")
	if err != nil || len(describe(r)) > 0 || !strings.Contains(complaints(r), "autoconfig https://autoconfig.example.org") || !strings.Contains(complaints(r), "srv _imaps") {
		t.Errorf("%v, %v\n%s", err, describe(r), complaints(r))
	}
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("it took %s", took)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	cancel(why)
	if _, err := f.Find(ctx, "ann@example.org"); !errors.Is(err, why) {
		t.Errorf("%v, want the cause", err)
	}
}

// TestForgedBook: whoever forges DNS can lead to a provider of the book and nowhere
// else, and the record says that it was DNS.
func TestForgedBook(t *testing.T) {
	_, f := newWorld(t, zone.Zone{"example.org MX": {"10 google.com.mallory.example", "20 notgoogle.com"}}, nil)
	r, err := f.Find(t.Context(), "ann@example.org")
	if err != nil || len(describe(r)) > 0 {
		t.Errorf("%v, %v", err, describe(r))
	}
}

func TestAddresses(t *testing.T) {
	f := &Finder{}
	for _, address := range []string{"", "ann", "@example.org", "ann@", "ann@localhost", "ann@127.0.0.1", "ann@[127.0.0.1]", "ann@example..org", "ann@-a.org", "ann@a_b.org",
		"ann@printer.local", "ann@exa mple.org", "ann@example.org/x", "ann@" + strings.Repeat("a.", 200) + "org", "ann@1.2", "ann@bücher.example"} {
		if _, err := f.Find(t.Context(), address); err == nil {
			t.Errorf("%q was looked for", address)
		}
	}
	for _, address := range []string{"ann@Example.ORG", "a@b@example.org.", "ann@xn--bcher-kva.example"} {
		if domain, err := domainOf(address); err != nil || strings.ToLower(domain) != domain || strings.HasSuffix(domain, ".") {
			t.Errorf("%q: %q, %v", address, domain, err)
		}
	}
}
