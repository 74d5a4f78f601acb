package portal

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Server is where mail programs connect to.
type Server struct {
	Host string
	Port int
	// StartTLS: begins in the clear and is encrypted by a command; false: TLS from the
	// first byte, which RFC 8314 section 3 wants.
	StartTLS bool
}

// Servers are told to people and to mail programs. A zero Host: there is no such server.
type Servers struct {
	Name                    string // of the service, for programs: "Example Project"
	IMAP, SMTP, POP3, Sieve Server
	Issuer                  string // whose tokens they take; "": none's
}

// name is what the service is called.
func (s Servers) name(domains []string) string {
	if s.Name == "" && len(domains) > 0 {
		return domains[0]
	}
	return s.Name
}

// A service is a server in the words of mail programs.
type service struct{ What, Host, Port, Security string }

func (s Servers) services(allowed []identity.Protocol) []service {
	var out []service
	for _, one := range []struct {
		protocol identity.Protocol
		what     string
		server   Server
	}{
		{identity.IMAP, "Incoming mail (IMAP)", s.IMAP}, {identity.POP3, "Incoming mail (POP3)", s.POP3},
		{identity.SMTP, "Outgoing mail (SMTP)", s.SMTP}, {identity.Sieve, "Filters (ManageSieve)", s.Sieve},
	} {
		if one.server.Host == "" || len(allowed) > 0 && !slices.Contains(allowed, one.protocol) {
			continue
		}
		security := "SSL/TLS"
		if one.server.StartTLS {
			security = "STARTTLS"
		}
		out = append(out, service{one.what, one.server.Host, strconv.Itoa(one.server.Port), security})
	}
	return out
}

// A block is text to be copied.
type block struct{ What, Text string }

// blocks are settings as files. The password stands in none of them: a file that is
// copied is a file that is kept.
func (s Servers) blocks(c identity.Credential, login string) []block {
	may := func(p identity.Protocol) bool { return len(c.Protocols) == 0 || slices.Contains(c.Protocols, p) }
	var out []block
	from := login
	if len(c.Senders) > 0 {
		from = c.Senders[0]
	}
	if may(identity.SMTP) && s.SMTP.Host != "" {
		out = append(out, block{"For msmtp (~/.msmtprc)", fmt.Sprintf("account letterlock\nhost %s\nport %d\ntls on\ntls_starttls %s\nauth plain\nuser %s\npasswordeval \"secret-tool lookup service letterlock\"\nfrom %s\n",
			s.SMTP.Host, s.SMTP.Port, onOff(s.SMTP.StartTLS), login, from)})
	}
	if may(identity.IMAP) && s.IMAP.Host != "" {
		kind := "IMAPS"
		if s.IMAP.StartTLS {
			kind = "STARTTLS"
		}
		out = append(out, block{"For mbsync (~/.mbsyncrc)", fmt.Sprintf("IMAPAccount letterlock\nHost %s\nPort %d\nTLSType %s\nAuthMechs PLAIN\nUser %s\nPassCmd \"secret-tool lookup service letterlock\"\n",
			s.IMAP.Host, s.IMAP.Port, kind, login)})
	}
	return out
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// The file that Thunderbird and others fetch to set an account up
// (https://www.bucksch.org/1/projects/thunderbird/autoconfiguration/config-file-format.html).
type (
	clientConfig struct {
		XMLName  xml.Name `xml:"clientConfig"`
		Version  string   `xml:"version,attr"`
		Provider provider `xml:"emailProvider"`
		OAuth    *oauth   `xml:"oAuth2"`
	}
	// oauth is what programs need that sign people in by a browser: the issuer says the
	// rest itself, the two URLs are for programs from before issuers were asked.
	oauth struct {
		Issuer        string `xml:"issuer"`
		Scope         string `xml:"scope"`
		Authorization string `xml:"authURL"`
		Token         string `xml:"tokenURL"`
	}
	provider struct {
		ID       string   `xml:"id,attr"`
		Domains  []string `xml:"domain"`
		Name     string   `xml:"displayName"`
		Short    string   `xml:"displayShortName"`
		Incoming []wire   `xml:"incomingServer"`
		Outgoing []wire   `xml:"outgoingServer"`
	}
	wire struct {
		Type           string `xml:"type,attr"`
		Host           string `xml:"hostname"`
		Port           int    `xml:"port"`
		Socket         string `xml:"socketType"`
		User           string `xml:"username"`
		Authentication string `xml:"authentication"`
	}
)

func wireOf(kind string, s Server) []wire {
	if s.Host == "" {
		return nil
	}
	socket := "SSL"
	if s.StartTLS {
		socket = "STARTTLS"
	}
	return []wire{{kind, s.Host, s.Port, socket, "%EMAILADDRESS%", "password-cleartext"}}
}

// autoconfig answers anybody: it is the same for all addresses and says nothing about
// any.
func (p *Portal) autoconfig(w http.ResponseWriter, r *http.Request) {
	s := p.o.Servers
	config := clientConfig{Version: "1.1", Provider: provider{
		Domains: p.o.Domains, Name: s.name(p.o.Domains), Incoming: append(wireOf("imap", s.IMAP), wireOf("pop3", s.POP3)...), Outgoing: wireOf("smtp", s.SMTP),
	}}
	if s.Issuer != "" {
		config.OAuth = &oauth{s.Issuer, "urn:ietf:params:oauth:scope:mail offline_access", s.Issuer + "/authorize", s.Issuer + "/token"}
	}
	if len(p.o.Domains) == 0 || len(config.Provider.Incoming) == 0 {
		http.Error(w, "no mail servers are named in the configuration", http.StatusNotFound)
		return
	}
	config.Provider.ID = p.o.Domains[0]
	config.Provider.Short, _, _ = strings.Cut(config.Provider.Name, " ")
	text, err := xml.MarshalIndent(config, "", "  ")
	if err != nil {
		p.o.Log.Error("portal: autoconfig", "error", err)
		http.Error(w, "this cannot be answered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "max-age=3600")
	_, _ = w.Write(append([]byte(xml.Header), text...))
}
