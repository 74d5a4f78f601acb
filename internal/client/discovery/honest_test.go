package discovery

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/zone"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

const (
	paccPlace = "ua-auto-config.example.org/.well-known/user-agent-configuration.json"
	xmlPlace  = "autoconfig.example.org/mail/config-v1.1.xml"
	wellKnown = "example.org/.well-known/autoconfig/mail/config-v1.1.xml"
	oidc      = "/.well-known/openid-configuration"
	rfc8414   = "/.well-known/oauth-authorization-server"
	resource  = "/.well-known/oauth-protected-resource"
)

func paccDoc(issuer string) string {
	return fmt.Sprintf(`{"protocols":{"imap":{"host":"imap.example.org"},"smtp":{"host":"smtp.example.org"},"pop3":{"host":"pop.example.org"},"managesieve":{"host":"imap.example.org"}},
"authentication":{"oauth-public":{"issuer":%q},"password":true},"info":{"provider":{"name":"Example"}}}`, issuer)
}

func digestOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return "v=UAAC1; a=sha256; d=" + base64.StdEncoding.EncodeToString(sum[:])
}

// xmlDoc is a document of Thunderbird's with the parts of a test in it.
func xmlDoc(domain, oauth string, servers ...string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><clientConfig version="1.1"><emailProvider id="x"><domain>` + domain + `</domain>` +
		strings.Join(servers, "") + `</emailProvider>` + oauth + `</clientConfig>`
}

func xmlServer(kind, host string, port int, socket string) string {
	element := "incomingServer"
	if kind == "smtp" {
		element = "outgoingServer"
	}
	return fmt.Sprintf(`<%s type=%q><hostname>%s</hostname><port>%d</port><socketType>%s</socketType><username>%%EMAILADDRESS%%</username><authentication>OAuth2</authentication></%s>`,
		element, kind, host, port, socket, element)
}

func xmlOAuth(issuer string) string {
	return `<oAuth2><issuer>` + issuer + `</issuer><scope>mail offline_access</scope><authURL>https://mallory.example/a</authURL><tokenURL>https://mallory.example/t</tokenURL></oAuth2>`
}

// TestHonest is a table of domains that publish their settings in one way each.
func TestHonest(t *testing.T) {
	pacc := paccDoc("https://login.example.org")
	srv := zone.Zone{
		"_imaps._tcp.example.org SRV":       {"0 1 993 mail.example.org"},
		"_submissions._tcp.example.org SRV": {"0 1 465 mail.example.org"},
		"_sieve._tcp.example.org SRV":       {"0 1 4190 mail.example.org"},
	}
	with := func(base zone.Zone, more ...string) zone.Zone {
		z := zone.Zone{}
		for name, values := range base {
			z[name] = values
		}
		for i := 0; i < len(more); i += 2 {
			z[more[i]] = []string{more[i+1]}
		}
		return z
	}
	tests := []struct {
		name    string
		address string
		zone    zone.Zone
		pages   map[string]page
		say     bool   // what the person answers
		tells   string // what the IMAP server answers an empty token with
		want    []string
		asked   []string // what the person was asked
	}{
		{name: "a provider of the book asks nobody", address: "ann@gmail.com",
			want: []string{"provider google book built-in", "imap imap.gmail.com:993 tls book built-in", "pop3 pop.gmail.com:995 tls book built-in", "smtp smtp.gmail.com:465 tls book built-in"}},
		{name: "PACC", zone: zone.Zone{"_ua-auto-config.example.org TXT": {"v=spf1 -all", digestOf("other"), digestOf(pacc)}},
			pages: map[string]page{paccPlace: {body: pacc}, "login.example.org" + oidc: metadata("https://login.example.org")},
			want: []string{"issuer https://login.example.org pacc certificate", "imap imap.example.org:993 tls pacc certificate", "pop3 pop.example.org:995 tls pacc certificate",
				"smtp smtp.example.org:465 tls pacc certificate", "sieve imap.example.org:4190 starttls pacc certificate"}},
		{name: "PACC with an issuer elsewhere: the domain's own word", zone: zone.Zone{"_ua-auto-config.example.org TXT": {digestOf(paccDoc("https://id.host.example/realms/mail"))}},
			pages: map[string]page{paccPlace: {body: paccDoc("https://id.host.example/realms/mail")}, "id.host.example" + rfc8414 + "/realms/mail": metadata("https://id.host.example/realms/mail")},
			want: []string{"issuer https://id.host.example/realms/mail pacc certificate", "imap imap.example.org:993 tls pacc certificate", "pop3 pop.example.org:995 tls pacc certificate",
				"smtp smtp.example.org:465 tls pacc certificate", "sieve imap.example.org:4190 starttls pacc certificate"}},
		{name: "autoconfig", pages: map[string]page{
			xmlPlace: {body: xmlDoc("example.org", xmlOAuth("https://login.example.org"),
				xmlServer("pop3", "mail.example.org", 110, "plain"), xmlServer("imap", "mail.example.org", 143, "STARTTLS"), xmlServer("imap", "late.example.org", 993, "SSL"), xmlServer("smtp", "mx.%EMAILDOMAIN%", 465, "SSL"))},
			"login.example.org" + oidc: metadata("https://login.example.org")},
			want: []string{"issuer https://login.example.org autoconfig certificate", "imap mail.example.org:143 starttls autoconfig certificate", "smtp mx.example.org:465 tls autoconfig certificate"}},
		{name: "autoconfig at the domain itself, by a redirect within it", pages: map[string]page{
			wellKnown: redirect("https://www.example.org/config.xml"), "www.example.org/config.xml": {body: xmlDoc("%EMAILDOMAIN%", xmlOAuth("login.example.org"))},
			"login.example.org" + oidc: metadata("https://login.example.org")},
			want: []string{"issuer https://login.example.org autoconfig certificate"}},
		{name: "autoconfig that names a provider of the book", pages: map[string]page{
			xmlPlace: {body: xmlDoc("example.org", xmlOAuth("accounts.google.com"), xmlServer("imap", "imap.gmail.com", 993, "SSL"))}},
			want: []string{"provider google autoconfig certificate", "imap imap.gmail.com:993 tls book built-in", "pop3 pop.gmail.com:995 tls book built-in", "smtp smtp.gmail.com:465 tls book built-in"}},
		{name: "SRV, and RFC 9728 at the mail server", zone: srv, pages: map[string]page{
			"mail.example.org" + resource: {body: `{"resource":"https://mail.example.org","authorization_servers":["https://login.example.org"],"scopes_supported":["imap","smtp"]}`},
			"login.example.org" + oidc:    metadata("https://login.example.org")},
			want: []string{"issuer https://login.example.org protected-resource certificate", "imap mail.example.org:993 tls srv dns", "smtp mail.example.org:465 tls srv dns", "sieve mail.example.org:4190 starttls srv dns"}},
		{name: "SRV, and the server's challenge", zone: srv, tells: "https://login.example.org/tenant" + oidc, pages: map[string]page{
			"login.example.org/tenant" + oidc: metadata("https://login.example.org/tenant")},
			want: []string{"issuer https://login.example.org/tenant sasl-challenge certificate", "imap mail.example.org:993 tls srv dns", "smtp mail.example.org:465 tls srv dns", "sieve mail.example.org:4190 starttls srv dns"}},
		{name: "SRV, and an authorization server on the mail server's host", zone: srv, pages: map[string]page{"mail.example.org" + rfc8414: metadata("https://mail.example.org")},
			want: []string{"issuer https://mail.example.org own-host certificate", "imap mail.example.org:993 tls srv dns", "smtp mail.example.org:465 tls srv dns", "sieve mail.example.org:4190 starttls srv dns"}},
		{name: "SRV elsewhere, and a person who says yes", say: true,
			zone:  zone.Zone{"_imaps._tcp.example.org SRV": {"0 1 993 mail.host.example"}, "_pop3s._tcp.example.org SRV": {"0 0 0 ."}, "_pop3._tcp.example.org SRV": {"0 0 0 ."}},
			pages: map[string]page{"mail.host.example" + oidc: metadata("https://mail.host.example")},
			want:  []string{"issuer https://mail.host.example own-host person", "imap mail.host.example:993 tls srv person"},
			asked: []string{"DNS, which can be forged, says that the imap server of example.org is mail.host.example"}},
		{name: "SRV to a server of the book", zone: zone.Zone{"_imaps._tcp.example.org SRV": {"0 1 993 imap.gmail.com"}},
			want: []string{"provider google srv dns in doubt", "imap imap.gmail.com:993 tls book built-in", "pop3 pop.gmail.com:995 tls book built-in", "smtp smtp.gmail.com:465 tls book built-in"}},
		{name: "MX of a provider of the book", zone: zone.Zone{"example.org MX": {"10 aspmx.l.google.com"}},
			want: []string{"provider google mx dns", "imap imap.gmail.com:993 tls book built-in", "pop3 pop.gmail.com:995 tls book built-in", "smtp smtp.gmail.com:465 tls book built-in"}},
		{name: "the domain's own word before MX", zone: with(srv, "example.org MX", "10 aspmx.l.google.com"), pages: map[string]page{
			xmlPlace: {body: xmlDoc("example.org", xmlOAuth("https://login.example.org"))}, "login.example.org" + oidc: metadata("https://login.example.org")},
			want: []string{"issuer https://login.example.org autoconfig certificate", "imap mail.example.org:993 tls srv dns", "smtp mail.example.org:465 tls srv dns", "sieve mail.example.org:4190 starttls srv dns"}},
		{name: "a redirect to another domain, and a person who says yes", say: true, pages: map[string]page{
			xmlPlace: redirect("https://config.host.example/x.xml"), "config.host.example/x.xml": {body: xmlDoc("example.org", xmlOAuth("https://id.host.example"), xmlServer("imap", "imap.host.example", 993, "SSL"))},
			"id.host.example" + oidc: metadata("https://id.host.example")},
			want:  []string{"issuer https://id.host.example autoconfig person", "imap imap.host.example:993 tls autoconfig person"},
			asked: []string{"https://autoconfig.example.org/mail/config-v1.1.xml leads to a document at config.host.example, which is not in example.org; it says that people sign in at https://id.host.example, and names the servers imap.host.example"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, f := newWorld(t, test.zone, test.pages)
			var asked []string
			f.Confirm = func(_ context.Context, doubts []string) (bool, error) {
				asked = append(asked, doubts...)
				return test.say, nil
			}
			f.Ask = func(_ context.Context, server provider.MailServer, user string) (string, error) {
				if test.tells == "" || server.Host != "mail.example.org" || user != "Ann@example.org" {
					return "", errors.New("refused without a word")
				}
				return test.tells, nil
			}
			address := test.address
			if address == "" {
				address = "Ann@example.org"
			}
			r, err := f.Find(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(r); !slices.Equal(got, test.want) {
				t.Errorf("found\n%s\nwant\n%s\ncomplaints:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"), complaints(r))
			}
			if !slices.Equal(asked, test.asked) {
				t.Errorf("the person was asked %q, want %q", asked, test.asked)
			}
		})
	}
}

// TestLent: what a document says beside the issuer comes along, and the endpoints that
// it names do not.
func TestLent(t *testing.T) {
	body := xmlDoc("example.org", `<oAuth2><issuer>https://login.example.org</issuer><scope>mail, offline_access</scope><authURL>https://mallory.example/</authURL><clientID>everybody</clientID><clientSecret>known</clientSecret></oAuth2>`,
		strings.Replace(xmlServer("imap", "mail.example.org", 993, "SSL"), "%EMAILADDRESS%", "%EMAILLOCALPART%", 1))
	_, f := newWorld(t, nil, map[string]page{xmlPlace: {body: body}, "login.example.org" + oidc: metadata("https://login.example.org")})
	r, err := f.Find(t.Context(), "ann@example.org")
	if err != nil || r.Issuer == nil {
		t.Fatalf("%v\n%s", err, complaints(r))
	}
	i := r.Issuer
	if i.ClientID != "everybody" || i.ClientSecret.Reveal() != "known" || !slices.Equal(i.Scopes, []string{"mail", "offline_access"}) || !i.Open {
		t.Errorf("%+v", i)
	}
	if i.Authorization != "https://login.example.org/authorize" {
		t.Errorf("the authorization endpoint is %s", i.Authorization)
	}
	if r.Servers[IMAP].User != "ann" {
		t.Errorf("the user's name there is %q", r.Servers[IMAP].User)
	}
}
