package authserver

import (
	"context"
	"net/http"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// pollDevice is the device grant (RFC 8628 section 3.4). An approved request gives
// its tokens to one poll; polls that come too soon slow the device down for good.
func (s *Server) pollDevice(ctx context.Context, client identity.Client, in params) (tokenAnswer, *oauthError) {
	if in["device_code"] == "" {
		return tokenAnswer{}, invalidRequest("device_code is missing")
	}
	codeDigest, ok := digest(in["device_code"], devicePrefix)
	if !ok {
		return tokenAnswer{}, invalidGrant("the device code is not valid")
	}
	now := s.Now()
	request, tooSoon, err := s.Devices.PollDevice(ctx, codeDigest, client.ID, now)
	if err != nil {
		return tokenAnswer{}, s.storeFault("poll device", err)
	}
	refuse := func(code string) (tokenAnswer, *oauthError) {
		return tokenAnswer{}, &oauthError{http.StatusBadRequest, code, ""}
	}
	switch {
	case request.State == identity.DeviceRedeemed:
		return tokenAnswer{}, s.revokeFamily(ctx, request.Grant, client.ID, "device code used twice", invalidGrant("the device code is not valid"))
	case !now.Before(request.Expires):
		return refuse("expired_token")
	case tooSoon:
		return refuse("slow_down")
	case request.State == identity.DevicePending:
		return refuse("authorization_pending")
	case request.State == identity.DeviceDenied:
		return refuse("access_denied")
	}
	return s.issue(ctx, client, request.Grant, signedIn{at: request.AuthTime})
}
