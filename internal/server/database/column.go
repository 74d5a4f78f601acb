package database

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// The types below read columns into the fields of nouns.

type stamp struct{ into *time.Time }

func (s stamp) Scan(value any) error {
	n, ok := value.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T", value)
	}
	*s.into = timeOf(n)
	return nil
}

// duration is kept in microseconds, as times are.
type duration struct{ into *time.Duration }

func (s duration) Scan(value any) error {
	n, ok := value.(int64)
	if !ok {
		return fmt.Errorf("duration column holds %T", value)
	}
	*s.into = time.Duration(n) * time.Microsecond
	return nil
}

type list[T ~string] struct {
	into *[]T
	by   string
}

func (l list[T]) Scan(value any) error {
	text, err := textOf(value)
	*l.into = split[T](text, l.by)
	return err
}

type digest struct{ into *identity.Digest }

func (d digest) Scan(value any) error {
	bytes, ok := value.([]byte)
	if !ok || len(bytes) != len(d.into) {
		return fmt.Errorf("digest column holds %T of length %d", value, len(bytes))
	}
	copy(d.into[:], bytes)
	return nil
}

type addr struct{ into *netip.Addr }

func (a addr) Scan(value any) error {
	text, err := textOf(value)
	if err != nil || text == "" {
		*a.into = netip.Addr{}
		return err
	}
	*a.into, err = netip.ParseAddr(text)
	return err
}

type prefix struct{ into *netip.Prefix }

func (p prefix) Scan(value any) error {
	text, err := textOf(value)
	if err != nil {
		return err
	}
	*p.into, err = netip.ParsePrefix(text)
	return err
}

type prefixes struct{ into *[]netip.Prefix }

func (p prefixes) Scan(value any) error {
	text, err := textOf(value)
	*p.into = nil
	for _, part := range split[string](text, byComma) {
		network, parseErr := netip.ParsePrefix(part)
		if parseErr != nil {
			return parseErr
		}
		*p.into = append(*p.into, network)
	}
	return err
}

func textOf(value any) (string, error) {
	switch value := value.(type) {
	case string:
		return value, nil
	case []byte:
		return string(value), nil
	}
	return "", fmt.Errorf("text column holds %T", value)
}

// addrText keeps an address without its zone, which means nothing to another machine.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.WithZone("").String()
}

func networkTexts(networks []netip.Prefix) (string, error) {
	texts := make([]string, len(networks))
	for i, network := range networks {
		if !network.IsValid() {
			return "", fmt.Errorf("network %d of the list: %w", i+1, identity.ErrInvalid)
		}
		texts[i] = network.Masked().String()
	}
	return joined(texts, byComma)
}

// maxAddress is RFC 5321 section 4.5.3.1: 64 octets, "@", 255 octets.
const maxAddress = 320

// checkAddress refuses what could not be a mail address in the tables of mail servers.
func checkAddress(address string) error {
	at := strings.LastIndexByte(address, '@')
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar }
	if at < 0 || at == len(address)-1 || len(address) > maxAddress || strings.IndexFunc(address, bad) >= 0 {
		return fmt.Errorf("address %q: %w", address, identity.ErrInvalid)
	}
	return nil
}

// checkOwn also wants the form that everything here compares byte by byte.
func checkOwn(address string) error {
	if address != strings.ToLower(address) {
		return fmt.Errorf("address %q is not in lower case: %w", address, identity.ErrInvalid)
	}
	return checkAddress(address)
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
