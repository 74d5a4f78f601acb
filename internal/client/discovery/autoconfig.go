package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/provider"
)

// autoconfigPlaces are where draft-ietf-mailmaint-autoconfig looks by https, the
// more special first. The address is named where the server is the domain's own
// configuration server, which may have different settings for different people.
func (s *search) autoconfigPlaces() []string {
	return []string{
		"https://autoconfig." + s.domain + "/mail/config-v1.1.xml?emailaddress=" + url.QueryEscape(s.address),
		"https://" + s.domain + "/.well-known/autoconfig/mail/config-v1.1.xml",
	}
}

func (s *search) autoconfig(ctx context.Context, place string) (*paper, string, error) {
	shown, _, _ := strings.Cut(place, "?")
	d, err := s.fetch(ctx, place, maxRedirects)
	if err != nil {
		return nil, shown, err
	}
	p, domains, err := parseAutoconfig(d.body, s.address)
	if err != nil {
		return nil, shown, err
	}
	p.Origin = Origin{Source: Autoconfig, Place: shown, Proof: ByCertificate}
	switch {
	case d.foreign != "":
		p.Doubt = fmt.Sprintf("%s leads to a document at %s, which is not in %s", shown, d.foreign, s.domain)
	case len(domains) > 0 && !slices.Contains(domains, s.domain):
		p.Doubt = fmt.Sprintf("%s is about %s and not about %s", shown, domains[0], s.domain)
	}
	if p.Doubt != "" {
		p.Doubt += p.says()
	}
	return p, shown, nil
}

// says is where p would have a sign-in and its tokens go: who is asked whether it is to
// be believed has to see that.
func (p *paper) says() string {
	var parts, hosts []string
	if p.issuer != "" {
		parts = append(parts, "says that people sign in at "+shown(p.issuer))
	}
	for _, service := range Services() {
		if host := p.servers[service].Host; host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) > 0 {
		parts = append(parts, "names the servers "+strings.Join(hosts, " "))
	}
	return "; it " + strings.Join(parts, ", and ")
}

// parseAutoconfig reads Thunderbird's XML, and the domains that it says it is for.
func parseAutoconfig(body []byte, address string) (*paper, []string, error) {
	root, err := parseXML(body)
	if err != nil {
		return nil, nil, err
	}
	if root.name != "clientConfig" {
		return nil, nil, errors.New("not Thunderbird's autoconfig")
	}
	fill := placeholders(address)
	p := &paper{servers: map[Service]Server{}}
	var domains []string
	for _, one := range root.all("emailProvider") {
		for _, domain := range one.all("domain") {
			domains = append(domains, strings.ToLower(fill.Replace(domain.text)))
		}
		for _, kind := range []string{"incomingServer", "outgoingServer"} {
			for _, server := range one.all(kind) {
				p.add(server, fill, address)
			}
		}
		p.oauth(one)
	}
	p.oauth(root)
	if len(p.servers) == 0 && p.issuer == "" {
		return nil, nil, errors.New("it names no mail server that can be used, and no issuer")
	}
	return p, domains, nil
}

// placeholders are those of the format. The password's is not among them.
func placeholders(address string) *strings.Replacer {
	at := strings.LastIndexByte(address, '@')
	return strings.NewReplacer("%EMAILADDRESS%", address, "%EMAILLOCALPART%", address[:max(at, 0)], "%EMAILDOMAIN%", address[at+1:])
}

// add takes a server, unless one for the same service is there that came first. One
// without TLS is passed over, and so is one whose name or port cannot be.
func (p *paper) add(e *element, fill *strings.Replacer, address string) {
	service := Service(strings.ToLower(e.attributes["type"]))
	security := map[string]provider.Security{"ssl": provider.ImplicitTLS, "tls": provider.ImplicitTLS, "starttls": provider.STARTTLS}[strings.ToLower(e.child("socketType"))]
	port, err := strconv.Atoi(e.child("port"))
	host := strings.ToLower(fill.Replace(e.child("hostname")))
	if _, first := p.servers[service]; first || !slices.Contains(Services(), service) || security == "" ||
		err != nil || port < 1 || port > 65535 || checkHost(host) != nil {
		return
	}
	server := Server{MailServer: provider.MailServer{Host: host, Port: port, Security: security}}
	if user := fill.Replace(e.child("username")); user != address && len(user) <= 320 && !strings.ContainsFunc(user, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		server.User = user
	}
	p.servers[service] = server
}

// oauth takes the first issuer that is named. The URLs of endpoints that may stand
// beside it are not used: the issuer says itself where they are.
func (p *paper) oauth(e *element) {
	for _, o := range e.all("oAuth2") {
		if p.issuer == "" && o.child("issuer") != "" {
			p.issuer, p.scopes = o.child("issuer"), strings.Fields(strings.ReplaceAll(o.child("scope"), ",", " "))
			p.clientID, p.secret = o.child("clientID"), o.child("clientSecret")
		}
	}
}
