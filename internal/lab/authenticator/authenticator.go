// Package authenticator is a passkey device in Go, for tests without a browser. It was
// written from WebAuthn level 3 (W3C): it answers the options of a page as a browser and a
// device would together, and lies where its fields tell it to.
package authenticator

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// The flags of authenticator data (section 6.1).
const (
	present  = 0x01
	verified = 0x04
	eligible = 0x08
	attested = 0x40
)

// A Device holds one passkey after Create.
type Device struct {
	Origin string // what the browser says it is at
	RPID   string // whose passkey the device thinks it is; empty: as the options say

	NoUV    bool   // the device did not ask who it is
	Synced  bool   // it may be copied by its maker
	Counter uint32 // of the last answer; Step zero: it stays
	Step    uint32

	id     []byte
	handle []byte
	key    *ecdsa.PrivateKey
}

// New makes a device for an origin; its counter goes up by one.
func New(origin string) *Device { return &Device{Origin: origin, Step: 1} }

// Clone is a second device with the same key, as somebody who copied it has.
func (d *Device) Clone() *Device { c := *d; return &c }

type creation struct {
	PublicKey struct {
		Challenge string `json:"challenge"`
		RP        struct {
			ID string `json:"id"`
		} `json:"rp"`
		User struct {
			ID string `json:"id"`
		} `json:"user"`
		Selection struct {
			UserVerification string `json:"userVerification"`
			ResidentKey      string `json:"residentKey"`
		} `json:"authenticatorSelection"`
		Attestation string `json:"attestation"`
		Exclude     []struct {
			ID string `json:"id"`
		} `json:"excludeCredentials"`
	} `json:"publicKey"`
}

type request struct {
	PublicKey struct {
		Challenge        string `json:"challenge"`
		RPID             string `json:"rpId"`
		UserVerification string `json:"userVerification"`
		Allow            []struct {
			ID string `json:"id"`
		} `json:"allowCredentials"`
	} `json:"publicKey"`
}

func text(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// Create answers the options of a registration. It insists on what our pages must ask for.
func (d *Device) Create(options string) (string, error) {
	var o creation
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return "", fmt.Errorf("read options: %w", err)
	}
	k := o.PublicKey
	if k.Selection.UserVerification != "required" || k.Selection.ResidentKey != "required" || k.Attestation != "none" {
		return "", fmt.Errorf("options ask for %+v, attestation %q", k.Selection, k.Attestation)
	}
	for _, e := range k.Exclude {
		if d.id != nil && e.ID == text(d.id) {
			return "", fmt.Errorf("the device has a passkey there already")
		}
	}
	var err error
	if d.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return "", err
	}
	d.id = make([]byte, 20)
	if _, err := rand.Read(d.id); err != nil {
		return "", err
	}
	if d.handle, err = base64.RawURLEncoding.DecodeString(k.User.ID); err != nil {
		return "", fmt.Errorf("user handle: %w", err)
	}
	point, err := d.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return "", err
	}
	// A COSE key: EC2, ES256, P-256 (RFC 9053 section 7.1.1).
	cose := append([]byte{0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 0x20}, point[1:33]...)
	cose = append(append(cose, 0x22, 0x58, 0x20), point[33:]...)
	data := d.data(k.RP.ID, attested)
	data = append(data, make([]byte, 16)...) // AAGUID: unknown
	data = binary.BigEndian.AppendUint16(data, uint16(len(d.id)))
	data = append(append(data, d.id...), cose...)
	var object bytes.Buffer
	object.WriteString("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59")
	object.Write(binary.BigEndian.AppendUint16(nil, uint16(len(data))))
	object.Write(data)
	return d.answer(map[string]any{
		"clientDataJSON": text(d.client("webauthn.create", k.Challenge)), "attestationObject": text(object.Bytes()), "transports": []string{"usb"},
	})
}

// Get answers the options of a sign-in.
func (d *Device) Get(options string) (string, error) {
	var o request
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return "", fmt.Errorf("read options: %w", err)
	}
	k := o.PublicKey
	if k.UserVerification != "required" {
		return "", fmt.Errorf("user verification is %q", k.UserVerification)
	}
	known := len(k.Allow) == 0
	for _, a := range k.Allow {
		known = known || a.ID == text(d.id)
	}
	if !known || d.key == nil {
		return "", fmt.Errorf("the device has no passkey for this")
	}
	client := d.client("webauthn.get", k.Challenge)
	data := d.data(k.RPID, 0)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(bytes.Clone(data), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, d.key, digest[:])
	if err != nil {
		return "", err
	}
	return d.answer(map[string]any{
		"clientDataJSON": text(client), "authenticatorData": text(data), "signature": text(signature), "userHandle": text(d.handle),
	})
}

func (d *Device) client(kind, challenge string) []byte {
	data, _ := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": d.Origin, "crossOrigin": false}) // strings and a truth always encode
	return data
}

func (d *Device) data(rp string, flags byte) []byte {
	if d.RPID != "" {
		rp = d.RPID
	}
	hash := sha256.Sum256([]byte(rp))
	flags |= present
	if !d.NoUV {
		flags |= verified
	}
	if d.Synced {
		flags |= eligible
	}
	d.Counter += d.Step
	return binary.BigEndian.AppendUint32(append(hash[:], flags), d.Counter)
}

func (d *Device) answer(response map[string]any) (string, error) {
	data, err := json.Marshal(map[string]any{
		"id": text(d.id), "rawId": text(d.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{},
		"authenticatorAttachment": "cross-platform",
	})
	return string(data), err
}
