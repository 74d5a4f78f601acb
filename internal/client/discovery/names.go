package discovery

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

const maxURL = 2048

// domainOf is the domain of an address, in lower case and as DNS writes it.
func domainOf(address string) (string, error) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || len(address) > 320 {
		return "", errors.New("not a mail address")
	}
	domain := strings.ToLower(strings.TrimSuffix(address[at+1:], "."))
	if err := checkHost(domain); err != nil {
		return "", fmt.Errorf("the domain of the address: %w", err)
	}
	return domain, nil
}

// checkHost accepts names that a certificate of a public authority can be for: with a
// dot, of letters, digits and hyphens, no address, and nothing that by its name is on
// this machine or link (RFC 6761, RFC 6762).
func checkHost(host string) error {
	if len(host) > 253 {
		return errors.New("a host name of more than 253 characters")
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return errors.New("an address in place of a host name")
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return errors.New("not a host name")
		}
	}
	top := labels[len(labels)-1]
	switch {
	case len(labels) < 2, top == "localhost", top == "local":
		return errors.New("a host name that means this machine or network")
	case strings.Trim(top, "0123456789") == "":
		return errors.New("an address in place of a host name") // 127.1 and the like
	}
	return nil
}

// within reports whether host is the domain or below it. Siblings and parents are
// outside: without a list of where registration begins nobody can tell co.uk from
// example.org.
func within(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// checkURL accepts an https URL of a proper host, without a user and a fragment.
func checkURL(text string) (*url.URL, error) {
	if len(text) > maxURL {
		return nil, fmt.Errorf("a URL of more than %d characters", maxURL)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("not a URL") // the parser's text repeats it
	case u.Scheme == "http":
		return nil, errors.New("a URL of plain http")
	case u.Scheme != "https" || u.Opaque != "":
		return nil, errors.New("not an https URL")
	case u.User != nil:
		return nil, errors.New("a URL with a user name")
	}
	u.Fragment = ""
	return u, checkHost(strings.ToLower(u.Hostname()))
}
