// Package login is the sign-in flows: browser on a loopback listener, device code,
// and paste. A flow ends with the token endpoint's answer; checking whose it is and
// keeping it is the caller's work. It opens listeners on loopback only, prints
// nothing (a [Person] shows and asks), and reads no configuration.
package login

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// A Request is one sign-in to be done.
type Request struct {
	Conn      *oauth.Conn
	Scopes    []string
	Extra     url.Values // provider's authorization parameters, `resource` included
	Redirect  provider.Redirect
	LoginHint string // the address, when the person lets it be sent
	Nonce     string // for the ID token; empty: none
	App       string // name the person sees: "Letterlock"
	Timeout   time.Duration
}

// A Person is whoever signs in, seen through the terminal and the desktop.
type Person interface {
	// OpenBrowser starts the browser; an error means it has to be done by hand.
	OpenBrowser(url string) error
	// ShowURL tells the person to open url; ShowDevice shows a device code, its
	// page, and the QR code of VerificationURIComplete when there is one.
	ShowURL(url string)
	ShowDevice(auth oauth.DeviceAuth)
	// Ask reads one line from terminal or pipe without echoing it.
	Ask(ctx context.Context, prompt string) (string, error)
	// Tell passes a remark on progress or trouble.
	Tell(line string)
}

// Surroundings are what Choose looks at.
type Surroundings struct {
	SSH, Display, BrowserSet, Container, Terminal bool
	Last                                          provider.Flow // the one remembered
}

var errStub = errors.New("not written yet")

// Choose picks the flow from the surroundings among those the provider allows, and
// says in a few words why.
func Choose(around Surroundings, allowed []provider.Flow) (flow provider.Flow, why string) {
	return provider.FlowPaste, ""
}

// Browser signs in through a browser that comes back to a loopback listener
// (RFC 8252): 127.0.0.1 and ::1 on one port.
func Browser(ctx context.Context, req Request, person Person) (oauth.Token, error) {
	return oauth.Token{}, errStub
}

// Device signs in by device code (RFC 8628).
func Device(ctx context.Context, req Request, person Person) (oauth.Token, error) {
	return oauth.Token{}, errStub
}

// Paste signs in by pasting the whole redirect URL, or the bare code, back.
func Paste(ctx context.Context, req Request, person Person) (oauth.Token, error) {
	return oauth.Token{}, errStub
}
