package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the networks whose X-Forwarded-For is believed. None by default: the header
// is a wish of whoever sends it.
type Proxies []netip.Prefix

// maxForwarded bounds how many hops are looked at.
const maxForwarded = 32

// Client is the address of the person: of the connection, or while that is a trusted
// proxy, the one the proxy added, from the right. What stands to the left of an address
// that is not trusted is anybody's invention. Other spellings of the header (X_Forwarded_For,
// Forwarded, X-Real-IP) are not read at all.
func (p Proxies) Client(r *http.Request) netip.Addr {
	port, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return p.walk(plainAddress(port.Addr()), r.Header.Values("X-Forwarded-For"))
}

func (p Proxies) walk(at netip.Addr, lines []string) netip.Addr {
	rest := strings.Join(lines, ",")
	for range maxForwarded {
		if rest == "" || !p.trusts(at) {
			return at
		}
		cut := strings.LastIndexByte(rest, ',')
		next, ok := hop(rest[cut+1:])
		if !ok {
			return at // what the proxy wrote is not an address: the proxy itself is all that is known
		}
		at, rest = next, rest[:max(cut, 0)]
	}
	return at
}

func (p Proxies) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(a) })
}

// hop reads one element: an address, or one with a port as some balancers write it.
func hop(text string) (netip.Addr, bool) {
	text = strings.Trim(text, " \t")
	if len(text) > 64 {
		return netip.Addr{}, false
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return plainAddress(a), true
	}
	port, err := netip.ParseAddrPort(text)
	return plainAddress(port.Addr()), err == nil
}

// plainAddress is the one form in which addresses are compared: IPv4 never as ::ffff:…,
// and no zone.
func plainAddress(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Agent says in words which browser that is, for the list of sessions. The header is the
// browser's own word, so nothing of it is shown but names known here.
func Agent(header string) string {
	if len(header) > 512 {
		header = header[:512]
	}
	first := func(names ...string) string {
		for i := 0; i < len(names); i += 2 {
			if strings.Contains(header, names[i]) {
				return names[i+1]
			}
		}
		return ""
	}
	// The order matters: Edge and Opera call themselves Chrome, which calls itself Safari.
	browser := first("Edg", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "FxiOS", "Firefox", "Chrome", "Chrome", "CriOS", "Chrome", "Safari/", "Safari", "curl/", "curl")
	system := first("Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Windows", "Windows", "Mac OS X", "macOS", "CrOS", "ChromeOS", "FreeBSD", "FreeBSD", "Linux", "Linux")
	switch {
	case browser == "" && system == "":
		return "an unknown program"
	case browser == "":
		return "a program on " + system
	case system == "":
		return browser
	}
	return browser + " on " + system
}
