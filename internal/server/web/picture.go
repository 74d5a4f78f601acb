package web

import (
	"encoding/base64"
	"html/template"
	"strings"
)

// Picture is a PNG made here as the address of an image, which templates would not take
// from elsewhere.
func Picture(png []byte) template.URL {
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(png))
}

// AppLink is an otpauth address, for an authenticator app on the same device. Anything else
// becomes nothing.
func AppLink(uri string) template.URL {
	if !strings.HasPrefix(uri, "otpauth://totp/") {
		return ""
	}
	return template.URL(uri)
}
