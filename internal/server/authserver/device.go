package authserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// deviceAnswer is RFC 8628 section 3.2.
type deviceAnswer struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int64  `json:"expires_in"`
	Interval                int64  `json:"interval"`
}

// deviceAuthorization is the endpoint that a device starts with.
func (s *Server) deviceAuthorization(w http.ResponseWriter, r *http.Request) {
	answer, fault := s.startDevice(w, r)
	if fault != nil {
		writeError(w, fault)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) startDevice(w http.ResponseWriter, r *http.Request) (deviceAnswer, *oauthError) {
	in, fault := form(w, r)
	if fault != nil {
		return deviceAnswer{}, fault
	}
	client, fault := s.requestClient(w, r, in)
	if fault != nil {
		return deviceAnswer{}, fault
	}
	if !client.Allows(identity.DeviceCode) {
		return deviceAnswer{}, &oauthError{http.StatusBadRequest, "unauthorized_client", "this client may not use device codes"}
	}
	scopes, ok := s.grantScopes(in["scope"])
	if scopes = allowedScopes(client, scopes); !ok || !useful(scopes) {
		return deviceAnswer{}, &oauthError{http.StatusBadRequest, "invalid_scope", "none of the scopes can be had here"}
	}
	code, userCode, err := s.addDevice(r, client, scopes)
	if err != nil {
		s.Log.Error("device authorization", "error", err)
		return deviceAnswer{}, serverError()
	}
	page := s.Issuer + "/device"
	return deviceAnswer{
		DeviceCode: code.Reveal(), UserCode: userCode, VerificationURI: page,
		VerificationURIComplete: page + "?user_code=" + url.QueryEscape(userCode),
		ExpiresIn:               int64(s.DeviceLifetime.Seconds()), Interval: int64(s.DeviceInterval.Seconds()),
	}, nil
}

// addDevice keeps a request under a user code that is free; with 20^8 codes a second
// try is already rare.
func (s *Server) addDevice(r *http.Request, client identity.Client, scopes []string) (secret.String, string, error) {
	code, codeDigest, err := s.mint(devicePrefix)
	if err != nil {
		return code, "", err
	}
	now := s.Now()
	for range 5 {
		userCode, err := s.newUserCode()
		if err != nil {
			return code, "", err
		}
		err = s.Devices.AddDevice(r.Context(), identity.DeviceRequest{
			Digest: codeDigest, UserCode: userCodeDigest(userCode), Client: client.ID, Scopes: scopes, From: s.remote(r),
			Created: now, Expires: now.Add(s.DeviceLifetime), Interval: s.DeviceInterval, State: identity.DevicePending,
		})
		if !errors.Is(err, identity.ErrExists) {
			return code, userCode, err
		}
	}
	return code, "", errors.New("no free user code found")
}

// userCodeLetters have no vowels, so that codes spell no words, and nothing that is
// read as something else (RFC 8628 section 6.1). 20^8 codes are 34.5 bits.
const userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"

func (s *Server) newUserCode() (string, error) {
	var code strings.Builder
	for code.Len() < 8 {
		var b [1]byte
		if _, err := io.ReadFull(s.Random, b[:]); err != nil {
			return "", fmt.Errorf("read randomness: %w", err)
		}
		// 240 is the highest multiple of 20: bytes above it would favour some letters.
		if b[0] < 240 {
			code.WriteByte(userCodeLetters[b[0]%20])
		}
	}
	return code.String()[:4] + "-" + code.String()[4:], nil
}

// normalUserCode reads a code as people type it: any case, any punctuation.
func normalUserCode(typed string) (string, bool) {
	if len(typed) > 40 {
		return "", false
	}
	var code strings.Builder
	for _, r := range strings.ToUpper(typed) {
		if strings.ContainsRune(userCodeLetters, r) {
			code.WriteRune(r)
		} else if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r > 0x7f {
			return "", false
		}
	}
	if code.Len() != 8 {
		return "", false
	}
	return code.String()[:4] + "-" + code.String()[4:], true
}

func userCodeDigest(normal string) identity.Digest { return identity.DigestOf("user code " + normal) }
