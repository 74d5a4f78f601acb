package portal

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// What one form may hold. Lists end in line protocols and in every check of a message.
const (
	maxLabel      = 60
	maxNetworks   = 16
	maxRecipients = 50
	maxSenders    = 50
	maxLines      = 8 << 10
	maxPerHour    = 10_000
)

// A wish is the form as it was typed, kept so that it can be shown again.
type wish struct {
	Machine                              bool
	Label, Networks, Recipients, PerHour string
	Expires                              string
	Protocols, Senders                   []string
}

// faults are what is wrong with a form, by field.
type faults map[string]string

// standard is what a form begins with. A machine sends to its owner until somebody says
// otherwise: what is stolen from a printer is worth nothing to a spammer.
func standard(machine bool, owner string) wish {
	if machine {
		return wish{Machine: true, Protocols: []string{string(identity.SMTP)}, Recipients: owner, PerHour: "20", Expires: "0"}
	}
	return wish{Protocols: []string{string(identity.IMAP), string(identity.SMTP)}, Expires: "0"}
}

func readWish(form url.Values) wish {
	return wish{
		Machine: form.Get("for") == "machine", Label: clip(form.Get("label")), Networks: clip(form.Get("networks")), Recipients: clip(form.Get("recipients")),
		PerHour: clip(form.Get("per_hour")), Expires: clip(form.Get("expires")), Protocols: form["protocol"], Senders: form["sender"],
	}
}

// clip bounds what is read and shown again.
func clip(text string) string {
	if len(text) > maxLines+1 {
		return strings.ToValidUTF8(text[:maxLines+1], "")
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

// parseWish turns a form into the limits of an app password, or says what is wrong with
// which field. own are the addresses that the person may send as.
func parseWish(w wish, own []string, now time.Time) (identity.Credential, faults) {
	c, f := identity.Credential{Created: now}, faults{}
	c.Label = strings.TrimSpace(w.Label)
	if problem := checkLabel(c.Label); problem != "" {
		f["label"] = problem
	}
	if c.Protocols = parseProtocols(w.Protocols); c.Protocols == nil {
		f["protocol"] = "Choose at least one of these."
	} else if len(c.Protocols) == len(protocols()) {
		c.Protocols = nil // all: also what is added later
	}
	var problem string
	if c.Networks, problem = parseNetworks(w.Networks); problem != "" {
		f["networks"] = problem
	}
	if c.Senders, problem = parseSenders(w.Senders, own); problem != "" {
		f["sender"] = problem
	}
	if c.Recipients, problem = parseRecipients(w.Recipients); problem != "" {
		f["recipients"] = problem
	}
	if text := strings.TrimSpace(w.PerHour); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPerHour {
			f["per_hour"] = "Write a number from 1 to 10000, or leave it empty for no limit."
		}
		c.PerHour = n
	}
	days, err := strconv.Atoi(w.Expires)
	if err != nil || !slices.Contains(lifetimes(), days) {
		f["expires"] = "Choose one of these."
	} else if days > 0 {
		c.Expires = now.Add(time.Duration(days) * 24 * time.Hour)
	}
	return c, f
}

// lifetimes are days; 0 is until revoked.
func lifetimes() []int { return []int{0, 1, 7, 30, 90, 365} }

func checkLabel(label string) string {
	switch {
	case label == "":
		return "Say what it is for, like: Ann's phone."
	case utf8.RuneCountInString(label) > maxLabel:
		return "Use at most 60 characters."
	case strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }):
		return "Use letters, digits and signs that can be seen."
	}
	return ""
}

// parseProtocols returns nil when a word is none, or there is none.
func parseProtocols(words []string) []identity.Protocol {
	var chosen []identity.Protocol
	for _, p := range protocols() {
		if slices.Contains(words, string(p)) {
			chosen = append(chosen, p)
		}
	}
	for _, word := range words {
		if !slices.Contains(protocols(), identity.Protocol(word)) {
			return nil
		}
	}
	return chosen
}

// entries splits a list that people write one a line, or with commas.
func entries(text string, most int) ([]string, string) {
	if len(text) > maxLines {
		return nil, "This is too long."
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || unicode.IsSpace(r) })
	var unique []string
	for _, word := range words {
		if !slices.Contains(unique, word) {
			unique = append(unique, word)
		}
		if len(unique) > most {
			return nil, "These are too many: at most " + strconv.Itoa(most) + "."
		}
	}
	return unique, ""
}

func parseNetworks(text string) ([]netip.Prefix, string) {
	words, problem := entries(text, maxNetworks)
	var networks []netip.Prefix
	for _, word := range words {
		network, err := parseNetwork(word)
		switch {
		case err != nil:
			return nil, quoted(word) + " is no network. Write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48."
		case network != network.Masked():
			return nil, quoted(word) + " has bits set behind its mask. Did you mean " + network.Masked().String() + "?"
		case network.Bits() == 0:
			return nil, quoted(word) + " is everywhere. Leave the field empty for that."
		}
		if !slices.Contains(networks, network) {
			networks = append(networks, network)
		}
	}
	return networks, problem
}

func parseNetwork(word string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(word); err == nil {
		address = address.Unmap().WithZone("")
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	return netip.ParsePrefix(word)
}

func parseSenders(words, own []string) ([]string, string) {
	var senders []string
	for _, word := range words {
		if !slices.Contains(own, word) || len(senders) > maxSenders {
			return nil, "Choose from your own addresses."
		}
		if !slices.Contains(senders, word) {
			senders = append(senders, word)
		}
	}
	return senders, ""
}

func parseRecipients(text string) ([]string, string) {
	words, problem := entries(text, maxRecipients)
	var recipients []string
	for _, word := range words {
		entry, err := parseEntry(word)
		if err != nil {
			return nil, quoted(word) + " is no recipient. Write ann@example.org, or @example.org for everybody there."
		}
		if !slices.Contains(recipients, entry) {
			recipients = append(recipients, entry)
		}
	}
	return recipients, problem
}

// parseEntry reads an address, or "@domain".
func parseEntry(word string) (string, error) {
	if domain, whole := strings.CutPrefix(word, "@"); whole {
		domain, err := identity.CanonicalDomain(domain)
		return "@" + domain, err
	}
	return identity.CanonicalAddress(word)
}

// quoted shows a person their own word again, not all of it when it is long.
func quoted(word string) string {
	if utf8.RuneCountInString(word) > 60 {
		word = string([]rune(word)[:60]) + "…"
	}
	return "“" + word + "”"
}
