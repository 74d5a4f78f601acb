package discovery

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/dnsask"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A paper is what a document says, whatever its form.
type paper struct {
	Origin
	servers  map[Service]Server
	issuer   string // as written
	scopes   []string
	clientID string
	secret   string
}

// pacc reads the document of draft-ietf-mailmaint-pacc: JSON at a host of its own,
// and its digest in DNS. The digest adds nothing against whoever forges DNS; it keeps
// a web server that was left behind from speaking for the domain. So both must agree,
// and a document without a digest counts for nothing.
func (s *search) pacc(ctx context.Context) (*paper, string, error) {
	name := "_ua-auto-config." + s.domain
	place := "https://ua-auto-config." + s.domain + "/.well-known/user-agent-configuration.json"
	texts, err := s.DNS.TXT(ctx, name)
	if errors.Is(err, dnsask.ErrNoName) {
		return nil, name, fmt.Errorf("%w: %w", errAbsent, err)
	}
	if err != nil {
		return nil, name, err
	}
	digests := paccDigests(texts)
	if len(digests) == 0 {
		return nil, name, fmt.Errorf("%w: no record of it among the texts", errAbsent)
	}
	d, err := s.fetch(ctx, place, 0)
	if err != nil {
		return nil, place, err
	}
	sum := sha256.Sum256(d.body)
	matches := false
	for _, digest := range digests {
		matches = matches || subtle.ConstantTimeCompare(digest, sum[:]) == 1
	}
	if !matches {
		return nil, place, errors.New("its digest is not the one in DNS")
	}
	p, err := parsePACC(d.body)
	if err != nil {
		return nil, place, err
	}
	p.Origin = Origin{Source: PACC, Place: place, Proof: ByCertificate}
	return p, place, nil
}

// paccDigests picks the SHA-256 digests out of records like
// "v=UAAC1; a=sha256; d=BASE64". At most eight are looked at.
func paccDigests(texts []string) [][]byte {
	var digests [][]byte
	for _, text := range texts {
		if len(text) > 1024 || len(digests) == 8 {
			continue
		}
		tags := map[string]string{}
		first := ""
		for i, part := range strings.Split(text, ";") {
			name, value, _ := strings.Cut(part, "=")
			name, value = strings.TrimSpace(name), strings.TrimSpace(value)
			if _, twice := tags[name]; twice {
				first = "" // which of the two is meant?
				break
			}
			tags[name] = value
			if i == 0 {
				first = name
			}
		}
		digest, err := base64.StdEncoding.Strict().DecodeString(tags["d"])
		if first == "v" && tags["v"] == "UAAC1" && tags["a"] == "sha256" && err == nil && len(digest) == sha256.Size {
			digests = append(digests, digest)
		}
	}
	return digests
}

// parsePACC reads the JSON. A server has a name and nothing else: its port is the one
// that TLS has from the first byte on.
func parsePACC(body []byte) (*paper, error) {
	if len(body) > maxDocument {
		return nil, fmt.Errorf("a document of more than %d bytes", maxDocument)
	}
	if err := shallow(body); err != nil {
		return nil, err
	}
	type host struct {
		Host string `json:"host"`
	}
	var doc struct {
		Protocols struct {
			IMAP        *host `json:"imap"`
			POP3        *host `json:"pop3"`
			SMTP        *host `json:"smtp"`
			ManageSieve *host `json:"managesieve"`
		} `json:"protocols"`
		Authentication struct {
			OAuth *struct {
				Issuer string `json:"issuer"`
			} `json:"oauth-public"`
		} `json:"authentication"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, errors.New("not the JSON that the draft describes")
	}
	p := &paper{servers: map[Service]Server{}}
	for _, one := range []struct {
		service  Service
		host     *host
		port     int
		security provider.Security
	}{
		{IMAP, doc.Protocols.IMAP, 993, provider.ImplicitTLS},
		{POP3, doc.Protocols.POP3, 995, provider.ImplicitTLS},
		{SMTP, doc.Protocols.SMTP, 465, provider.ImplicitTLS},
		{Sieve, doc.Protocols.ManageSieve, 4190, provider.STARTTLS}, // RFC 5804 has no other
	} {
		if one.host == nil {
			continue
		}
		name := strings.ToLower(one.host.Host)
		if err := checkHost(name); err != nil {
			return nil, fmt.Errorf("%s: %w", one.service, err)
		}
		p.servers[one.service] = Server{MailServer: provider.MailServer{Host: name, Port: one.port, Security: one.security}}
	}
	if doc.Authentication.OAuth != nil {
		p.issuer = doc.Authentication.OAuth.Issuer
	}
	if len(p.servers) == 0 && p.issuer == "" {
		return nil, errors.New("it names neither a mail server nor an issuer")
	}
	return p, nil
}
