package oauth

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// tenantTemplate is what Microsoft's metadata has in the issuer of documents that
// stand for more than one tenant.
const tenantTemplate = "{tenantid}"

const maxURL = 2048

// ParseIssuer checks an issuer as typed by a person or found in a file. Host and
// scheme become lower case and a missing scheme becomes https; a slash at the end is
// part of the name and stays as it is.
func ParseIssuer(text string) (Issuer, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", errors.New("issuer is empty")
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := parseURL(text)
	if err != nil {
		return "", fmt.Errorf("issuer %q: %w", oneLine(text), err)
	}
	// RFC 8414 section 2: no query, no fragment.
	if u.RawQuery != "" || u.ForceQuery {
		return "", fmt.Errorf("issuer %q: an issuer has no query", oneLine(text))
	}
	scheme, rest, _ := strings.Cut(text, "://")
	host, path, slash := strings.Cut(rest, "/")
	text = strings.ToLower(scheme) + "://" + strings.ToLower(host)
	if slash {
		text += "/" + path
	}
	return Issuer(text), nil
}

// parseURL accepts https URLs, and http ones of loopback hosts.
func parseURL(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, fmt.Errorf("URL of more than %d characters", maxURL)
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= 0x20 || r >= 0x7f }) {
		return nil, errors.New("URL with characters that do not belong there")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL") // the parser's text repeats the URL
	}
	switch {
	case u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("URL without a host")
	case u.User != nil:
		return nil, errors.New("URL with a user name")
	case u.Fragment != "" || strings.HasSuffix(raw, "#"):
		return nil, errors.New("URL with a fragment")
	}
	return u, checkScheme(u)
}

// checkScheme refuses all but https, and http to a loopback host.
func checkScheme(u *url.URL) error {
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("%s: plain http is for loopback hosts only", oneLine(u.Host))
	}
	return errors.New("not an https URL")
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// matches reports whether name, an iss that came back, is this issuer. A templated
// issuer matches any tenant of its host; tenant is what took the template's place.
func (issuer Issuer) matches(name string) (tenant string, ok bool) {
	before, after, templated := strings.Cut(string(issuer), tenantTemplate)
	if !templated {
		return "", name == string(issuer)
	}
	if len(name) <= len(before)+len(after) || !strings.HasPrefix(name, before) || !strings.HasSuffix(name, after) {
		return "", false
	}
	tenant = name[len(before) : len(name)-len(after)]
	return tenant, plainSegment(tenant)
}

// plainSegment reports whether text is what Microsoft names tenants by: a number of
// the form 8-4-4-4-12, a domain, or a word.
func plainSegment(text string) bool {
	for _, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && r != '-' && r != '.' {
			return false
		}
	}
	return text != "" && strings.Trim(text, ".") != ""
}
