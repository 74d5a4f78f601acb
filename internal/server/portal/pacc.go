package portal

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// PACCPath is where a program looks for the document of draft-ietf-mailmaint-pacc, at the
// host ua-auto-config of the domain.
const PACCPath = "/.well-known/user-agent-configuration.json"

// The document of draft-ietf-mailmaint-pacc-04. The members stand in this order in each
// process: DNS has the digest of the bytes.
type (
	paccDocument struct {
		Protocols      paccProtocols      `json:"protocols"`
		Authentication paccAuthentication `json:"authentication"`
		Info           paccInfo           `json:"info"`
	}
	paccProtocols struct {
		IMAP  *paccHost `json:"imap,omitempty"`
		POP3  *paccHost `json:"pop3,omitempty"`
		SMTP  *paccHost `json:"smtp,omitempty"`
		Sieve *paccHost `json:"managesieve,omitempty"`
	}
	paccHost struct {
		Host string `json:"host"`
	}
	paccAuthentication struct {
		OAuth    *paccOAuth `json:"oauth-public,omitempty"`
		Password bool       `json:"password"`
	}
	paccOAuth struct {
		Issuer string `json:"issuer"`
	}
	paccInfo struct {
		Provider paccProvider `json:"provider"`
	}
	paccProvider struct {
		Name string `json:"name"`
	}
)

// PACC is the document, the same for all domains. A server has a name there and nothing
// else, so it must be on the port that TLS has from the first byte on, or ManageSieve's
// own; the error says which one is not. Half of the servers is not published: a program
// would take the others for missing.
func (s Servers) PACC(domains []string) ([]byte, error) {
	doc := paccDocument{Authentication: paccAuthentication{Password: true}, Info: paccInfo{paccProvider{s.name(domains)}}}
	named := false
	for _, one := range []struct {
		what   string
		port   int
		server Server
		into   **paccHost
	}{
		{"imap", 993, s.IMAP, &doc.Protocols.IMAP}, {"pop3", 995, s.POP3, &doc.Protocols.POP3},
		{"submission", 465, s.SMTP, &doc.Protocols.SMTP}, {"sieve", 4190, s.Sieve, &doc.Protocols.Sieve},
	} {
		switch {
		case one.server.Host == "":
		case one.server.Port != one.port:
			return nil, fmt.Errorf("%s is on port %d, and the document can only mean port %d", one.what, one.server.Port, one.port)
		default:
			*one.into, named = &paccHost{one.server.Host}, true
		}
	}
	if !named || doc.Info.Provider.Name == "" {
		return nil, errors.New("no mail servers are named in the configuration")
	}
	if s.Issuer != "" {
		doc.Authentication.OAuth = &paccOAuth{s.Issuer}
	}
	return json.Marshal(doc)
}

// PACCRecord is the text that has to stand in DNS at _ua-auto-config of the domain, or the
// document counts for nothing.
func PACCRecord(document []byte) string {
	digest := sha256.Sum256(document)
	return "v=UAAC1; a=sha256; d=" + base64.StdEncoding.EncodeToString(digest[:])
}

// pacc answers anybody, as autoconfig does. The bytes are those whose digest is in DNS, so
// there is no other encoding of them.
func (p *Portal) pacc(w http.ResponseWriter, _ *http.Request) {
	document, err := p.o.Servers.PACC(p.o.Domains)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// Shorter than the five minutes of its digest in DNS.
	w.Header().Set("Cache-Control", "max-age=60")
	_, _ = w.Write(document)
}
