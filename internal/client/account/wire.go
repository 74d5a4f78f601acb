package account

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// version is that of the grants' JSON. Any change of a field is a new one: a program
// that does not know a field would drop it at its next write. Version 2 has key_file;
// a grant without one is written as version 1, which older programs know.
const version = 2

// Limits of a grant, such that a grant that was saved (half of grantLimit) can take any
// new token. A token over tokenLimit is no token but an attack; cached access tokens
// are dropped before a grant grows over cacheLimit. tokenstore takes 252 KiB.
const (
	grantLimit = 192 << 10
	cacheLimit = 64 << 10
	tokenLimit = 48 << 10
)

// wireGrant is a grant as stored. Secrets are revealed into it and nowhere else.
// Times are milliseconds since 1970, 0 for none: an RFC 3339 encoder fails on a year
// over 9999, and nothing may fail between the provider's answer and the disk.
type wireGrant struct {
	Version       int                   `json:"version"`
	Account       string                `json:"account"`
	Login         string                `json:"login,omitempty"`
	Subject       string                `json:"subject,omitempty"`
	Provider      string                `json:"provider,omitempty"`
	Right         provider.Right        `json:"right,omitempty"`
	Client        wireClient            `json:"client"`
	Endpoints     oauth.Endpoints       `json:"endpoints"`
	Resources     []wireResource        `json:"resources"`
	Refresh       string                `json:"refresh_token,omitempty"`
	RefreshExpiry int64                 `json:"refresh_expiry,omitempty"`
	SignedIn      int64                 `json:"signed_in,omitempty"`
	Refreshed     int64                 `json:"refreshed,omitempty"`
	Flow          provider.Flow         `json:"flow,omitempty"`
	KeyFile       string                `json:"key_file,omitempty"`
	Access        map[string]wireAccess `json:"access,omitempty"`
	Serial        int64                 `json:"serial"`
}

type wireClient struct {
	ID           string            `json:"id"`
	Secret       string            `json:"secret,omitempty"`
	Auth         oauth.AuthStyle   `json:"auth,omitempty"`
	Registration *wireRegistration `json:"registration,omitempty"`
}

type wireRegistration struct {
	ClientURI   string `json:"client_uri"`
	AccessToken string `json:"access_token"`
}

type wireResource struct {
	Name      string             `json:"name"`
	Purposes  []provider.Purpose `json:"purposes,omitempty"`
	Scopes    []string           `json:"scopes,omitempty"`
	Indicator string             `json:"indicator,omitempty"`
}

type wireAccess struct {
	Token  string   `json:"token"`
	Expiry int64    `json:"expiry,omitempty"`
	Issued int64    `json:"issued,omitempty"`
	Scopes []string `json:"scopes,omitempty"`
}

// encode writes a grant. It drops cached access tokens rather than become too large.
func encode(grant *Grant) ([]byte, error) {
	wire := toWire(grant)
	plain, err := marshal(wire)
	if err == nil && len(plain) > cacheLimit {
		wire.Access = nil
		plain, err = marshal(wire)
	}
	if err != nil {
		return nil, fmt.Errorf("encode grant: %w", err)
	}
	if len(plain) > grantLimit {
		return nil, fmt.Errorf("encode grant: over %d bytes", grantLimit)
	}
	return plain, nil
}

func marshal(wire wireGrant) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // '&' and '<' would take six bytes each
	err := encoder.Encode(wire)
	return b.Bytes(), err
}

func toWire(g *Grant) wireGrant {
	wire := wireGrant{
		Version: version, Account: g.Account, Login: g.Login, Subject: g.Subject,
		Provider: g.Provider, Right: g.Right, Endpoints: g.Endpoints,
		Refresh: g.Refresh.Reveal(), RefreshExpiry: millis(g.RefreshExpiry),
		SignedIn: millis(g.SignedIn), Refreshed: millis(g.Refreshed),
		Flow: g.Flow, KeyFile: g.KeyFile, Serial: g.Serial,
		Client: wireClient{ID: g.Client.ID, Secret: g.Client.Secret.Reveal(), Auth: g.Client.Auth},
	}
	if g.KeyFile == "" {
		wire.Version = 1
	}
	if r := g.Client.Registration; r != nil {
		wire.Client.Registration = &wireRegistration{ClientURI: r.ClientURI, AccessToken: r.AccessToken.Reveal()}
	}
	for _, r := range g.Resources {
		wire.Resources = append(wire.Resources, wireResource(r))
	}
	for name, a := range g.Access {
		if wire.Access == nil {
			wire.Access = make(map[string]wireAccess, len(g.Access))
		}
		wire.Access[name] = wireAccess{Token: a.Token.Reveal(), Expiry: millis(a.Expiry), Issued: millis(a.Issued), Scopes: a.Scopes}
	}
	return wire
}

// decode reads the grant of the account called name. Whatever is wrong with it is
// tokenstore.ErrDamaged, but for ErrVersion.
func decode(name string, plain []byte) (*Grant, error) {
	if len(plain) > grantLimit {
		return nil, fmt.Errorf("grant over %d bytes: %w", grantLimit, tokenstore.ErrDamaged)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(plain, &head); err != nil {
		// The decoder's text may quote what it read: it stays out of the error.
		return nil, fmt.Errorf("grant is no JSON: %w", tokenstore.ErrDamaged)
	}
	if head.Version > version {
		return nil, fmt.Errorf("grant has version %d, this program knows %d: %w", head.Version, version, ErrVersion)
	}
	var wire wireGrant
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wire); err != nil || wire.Version < 1 || wire.Version == 1 && wire.KeyFile != "" {
		return nil, fmt.Errorf("grant has other fields than version %d: %w", head.Version, tokenstore.ErrDamaged)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("grant goes on after its end: %w", tokenstore.ErrDamaged)
	}
	// A file renamed, or restored to the wrong place, must not lend one account's
	// rights to another.
	if wire.Account != name {
		return nil, fmt.Errorf("grant belongs to another account: %w", tokenstore.ErrDamaged)
	}
	return fromWire(wire)
}

func fromWire(wire wireGrant) (*Grant, error) {
	g := &Grant{
		Account: wire.Account, Login: wire.Login, Subject: wire.Subject,
		Provider: wire.Provider, Right: wire.Right, Endpoints: wire.Endpoints,
		Refresh: secret.New(wire.Refresh), RefreshExpiry: moment(wire.RefreshExpiry),
		SignedIn: moment(wire.SignedIn), Refreshed: moment(wire.Refreshed),
		Flow: wire.Flow, KeyFile: wire.KeyFile, Serial: wire.Serial,
		Client: oauth.Client{ID: wire.Client.ID, Secret: secret.New(wire.Client.Secret), Auth: wire.Client.Auth},
		Access: make(map[string]Access, len(wire.Access)),
	}
	if r := wire.Client.Registration; r != nil {
		g.Client.Registration = &oauth.Registered{ClientURI: r.ClientURI, AccessToken: secret.New(r.AccessToken)}
	}
	for _, r := range wire.Resources {
		g.Resources = append(g.Resources, Resource(r))
	}
	for name, a := range wire.Access {
		g.Access[name] = Access{Token: secret.New(a.Token), Expiry: moment(a.Expiry), Issued: moment(a.Issued), Scopes: a.Scopes}
	}
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, tokenstore.ErrDamaged)
	}
	return g, nil
}

// check finds what no grant of ours can have.
func (g *Grant) check() error {
	if err := CheckName(g.Account); err != nil {
		return err
	}
	if len(g.Resources) == 0 {
		return errors.New("grant is for no resource")
	}
	seen := make(map[string]bool, len(g.Resources))
	for _, r := range g.Resources {
		if r.Name == "" || seen[r.Name] {
			return errors.New("grant has a resource twice or without a name")
		}
		seen[r.Name] = true
	}
	for name := range g.Access {
		if !seen[name] {
			return errors.New("grant has an access token for a resource that it does not have")
		}
	}
	return nil
}

// CheckName reports, with ErrName, what cannot be an account's name: it is typed on
// command lines, shown in tables and logs, and becomes a file name.
func CheckName(name string) error {
	const limit = 255 // an address has at most 254 (RFC 5321 section 4.5.3.1.3)
	switch {
	case name == "":
		return fmt.Errorf("empty name: %w", ErrName)
	case len(name) > limit:
		return fmt.Errorf("name over %d bytes: %w", limit, ErrName)
	case !utf8.ValidString(name):
		return fmt.Errorf("name is no UTF-8: %w", ErrName)
	case strings.HasPrefix(name, "-"), strings.HasPrefix(name, "."):
		return fmt.Errorf("name begins with %q: %w", name[:1], ErrName)
	case strings.ContainsAny(name, `/\`):
		return fmt.Errorf("name has a slash: %w", ErrName)
	}
	for _, r := range name {
		// Graphic leaves out control characters and the invisible format characters,
		// which reverse or hide text on a terminal.
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			return fmt.Errorf("name has a space or an invisible character: %w", ErrName)
		}
	}
	return nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
