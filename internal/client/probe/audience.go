package probe

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// maxClaims bounds what is decoded of a token.
const maxClaims = 16 << 10

// audience returns for whom a token says it was issued, when it is a JWT and says so.
// Nothing is verified: it explains a refusal and decides nothing.
func audience(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(parts[1]) > maxClaims {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Audience json.RawMessage `json:"aud"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	var one string
	var several []string // RFC 7519 section 4.1.3 has both forms
	if json.Unmarshal(claims.Audience, &one) == nil {
		return one
	}
	if json.Unmarshal(claims.Audience, &several) == nil {
		return strings.Join(several, ", ")
	}
	return ""
}
