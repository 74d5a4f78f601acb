package takeover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/provider"
	"github.com/letterlock-mail/letterlock/internal/secret"
)

// A muttFile is the JSON inside mutt_oauth2.py's token file. The last four fields
// came with the script's versions of 2024; before, client and endpoints stood in the
// script itself.
type muttFile struct {
	Registration string `json:"registration"`
	AuthFlow     string `json:"authflow"`
	Email        string `json:"email"`
	Access       string `json:"access_token"`
	Expiry       string `json:"access_token_expiration"`
	Refresh      string `json:"refresh_token"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	Tenant       string `json:"tenant"`
	RedirectURI  string `json:"redirect_uri"`
}

// ReadMuttOAuth2 reads a token file of mutt_oauth2.py, which is gpg's output or that
// of whatever command its user put in. A file in plain JSON needs no decrypt. where
// is the time zone of the computer that wrote it: the script notes local time
// without saying so.
func ReadMuttOAuth2(ctx context.Context, r io.Reader, decrypt Decrypt, where *time.Location) (Found, error) {
	sealed, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return Found{}, fmt.Errorf("read token file: %w", err)
	}
	if len(sealed) > maxFile {
		return Found{}, notMutt("it is larger than any token file")
	}
	plain := sealed
	if !bytes.HasPrefix(bytes.TrimSpace(sealed), []byte("{")) {
		if len(bytes.TrimSpace(sealed)) == 0 {
			return Found{}, notMutt("it is empty")
		}
		if decrypt == nil {
			return Found{}, notMutt("it is encrypted, or something else")
		}
		if plain, err = decrypt(ctx, sealed); err != nil {
			return Found{}, err
		}
	}
	defer clear(plain)
	return parseMutt(plain, where)
}

// parseMutt repeats nothing of the file in its errors, tokens least of all.
func parseMutt(plain []byte, where *time.Location) (Found, error) {
	if len(plain) > maxPlain {
		return Found{}, notMutt("it is larger than any token file")
	}
	var file *muttFile
	if err := json.Unmarshal(plain, &file); err != nil || file == nil {
		return Found{}, notMutt("what is in it is not its JSON")
	}
	for _, field := range []string{file.Registration, file.AuthFlow, file.Email, file.Expiry, file.ClientID, file.Tenant, file.RedirectURI} {
		if len(field) > maxField || strings.ContainsFunc(field, unprintable) {
			return Found{}, notMutt("a field in it holds what does not belong there")
		}
	}
	for _, token := range []string{file.Access, file.Refresh, file.ClientSecret} {
		if len(token) > maxToken || strings.ContainsFunc(token, notVSChar) {
			return Found{}, notMutt("a token in it holds characters that no token has")
		}
	}
	if file.Refresh == "" && file.Access == "" {
		return Found{}, &cli.Fault{Code: cli.DataError, What: "the token file holds no tokens: its sign-in was never finished",
			Hint: "sign in with `letterlock login` instead", Err: ErrNoGrant}
	}
	return file.found(where)
}

func (f *muttFile) found(where *time.Location) (Found, error) {
	expiry, err := naiveTime(f.Expiry, where)
	if err != nil {
		return Found{}, notMutt("its time of expiry cannot be read")
	}
	return Found{
		Email:        f.Email,
		Registration: f.Registration,
		ProviderName: muttProvider(f.Registration),
		Tenant:       f.Tenant,
		Flow:         muttFlow(f.AuthFlow),
		ClientID:     f.ClientID,
		ClientSecret: secret.New(f.ClientSecret),
		RedirectURI:  f.RedirectURI,
		Refresh:      secret.New(f.Refresh),
		Access:       secret.New(f.Access),
		Expiry:       expiry,
	}, nil
}

func muttProvider(registration string) string {
	switch registration {
	case "google", "microsoft":
		return registration
	}
	return ""
}

func muttFlow(authflow string) provider.Flow {
	switch authflow {
	case "authcode":
		return provider.FlowPaste
	case "localhostauthcode":
		return provider.FlowBrowser
	case "devicecode":
		return provider.FlowDevice
	}
	return ""
}

// naiveTime reads Python's isoformat without a zone. The script adds seconds to the
// clock on the wall, so that around a change to or from summer time the text means
// one of two instants: the earlier is taken. An hour too early costs a refresh, an
// hour too late hands out a dead token.
func naiveTime(text string, where *time.Location) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	wall, err := time.ParseInLocation("2006-01-02T15:04:05.999999", text, time.UTC)
	if err != nil {
		return time.Time{}, errors.New("no time")
	}
	if wall.Year() < 2000 || wall.Year() > 9000 {
		return time.Time{}, errors.New("no time of a token")
	}
	const day = 24 * time.Hour
	_, near := wall.Add(day).In(where).Zone()
	_, before := wall.Add(-day).In(where).Zone()
	return wall.Add(-time.Duration(max(near, before)) * time.Second).In(where), nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// notVSChar is the reverse of VSCHAR, which tokens and secrets are made of (RFC 6749
// appendix A).
func notVSChar(r rune) bool { return r < ' ' || r > '~' }

func notMutt(why string) error {
	return cli.Faultf(cli.DataError, "give the token file that mutt_oauth2.py was called with; see also --decryption-pipe",
		"this is no token file of mutt_oauth2.py: %s", why)
}
