package browser

import (
	"context"
	"fmt"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// A Device is Chromium's virtual authenticator: it makes and uses passkeys at once, as if
// somebody touched it and showed their finger.
type Device struct {
	ctx context.Context
	id  webauthn.AuthenticatorID
}

// NewDevice plugs one into the tab.
func NewDevice(ctx context.Context) (*Device, error) {
	d := &Device{ctx: ctx}
	err := d.do(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		result, err := cdp.Call(ctx, target, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportUsb, HasResidentKey: true,
			HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		}})
		d.id = result.AuthenticatorID
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("plug in a virtual authenticator: %w", err)
	}
	return d, nil
}

func (d *Device) do(step func(ctx context.Context, target *chromedp.Target) error) error {
	return chromedp.Do(d.ctx, func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		return chromedp.Void{}, step(ctx, target)
	})
}

// Passkeys are those on the device, with their private keys.
func (d *Device) Passkeys() (keys []*webauthn.Credential, err error) {
	err = d.do(func(ctx context.Context, target *chromedp.Target) error {
		result, err := cdp.Call(ctx, target, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: d.id})
		keys = result.Credentials
		return err
	})
	return keys, err
}

// Put takes all passkeys off the device and puts one on it.
func (d *Device) Put(key *webauthn.Credential) error {
	return d.do(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, webauthn.ClearCredentials, webauthn.ClearCredentialsParams{AuthenticatorID: d.id}); err != nil {
			return err
		}
		// Not webauthn.AddCredential: it sends a field that this kind of device refuses.
		_, err := cdp.Call(ctx, target, cdp.Command[putParams, cdp.Empty]{Method: webauthn.CommandAddCredential}, putParams{d.id, putKey{
			key.CredentialID, key.IsResidentCredential, key.RpID, key.PrivateKey, key.UserHandle, key.SignCount,
		}})
		return err
	})
}

type putParams struct {
	Device webauthn.AuthenticatorID `json:"authenticatorId"`
	Key    putKey                   `json:"credential"`
}

type putKey struct {
	ID         []byte  `json:"credentialId"`
	Resident   bool    `json:"isResidentCredential"`
	RPID       string  `json:"rpId"`
	PrivateKey []byte  `json:"privateKey"`
	UserHandle []byte  `json:"userHandle"`
	SignCount  float64 `json:"signCount"`
}

// Verifies says whether the device recognises its owner from now on.
func (d *Device) Verifies(yes bool) error {
	return d.do(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: d.id, IsUserVerified: yes})
		return err
	})
}
