package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// Bounds of RFC 8628 polling. The specification has a default for the interval only.
const (
	defaultInterval = 5 * time.Second
	maxInterval     = time.Minute
	defaultLife     = 10 * time.Minute
	maxLife         = time.Hour
	maxPolls        = 720 // maxLife at the default interval
	maxFaults       = 10  // in a row
)

// StartDevice asks for a device code (RFC 8628 section 3.1).
func (c *Conn) StartDevice(ctx context.Context, scopes []string, extra url.Values) (DeviceAuth, error) {
	form := url.Values{}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	if err := addExtra(form, extra); err != nil {
		return DeviceAuth{}, err
	}
	sent := c.now()
	a, err := c.postForm(ctx, "device authorization", c.Endpoints.DeviceAuthorization, form)
	if err != nil {
		return DeviceAuth{}, err
	}
	if !a.ok() {
		return DeviceAuth{}, a.fault()
	}
	o, err := a.object()
	if err != nil {
		return DeviceAuth{}, err
	}
	if o.fault() != nil {
		return DeviceAuth{}, a.fault()
	}
	auth, err := o.deviceAuth(sent)
	if err != nil {
		return DeviceAuth{}, a.malformed(err)
	}
	return auth, nil
}

// deviceAuth reads RFC 8628 section 3.2. What people are shown is checked, not cleaned:
// a code with control characters in it is no code.
func (o object) deviceAuth(sent time.Time) (DeviceAuth, error) {
	code := o.lenient("device_code")
	auth := DeviceAuth{
		DeviceCode:              secret.New(code),
		UserCode:                o.lenient("user_code"),
		VerificationURI:         o.lenient("verification_uri"),
		VerificationURIComplete: o.lenient("verification_uri_complete"),
	}
	if auth.VerificationURI == "" {
		auth.VerificationURI = o.lenient("verification_url") // Google's name for it
	}
	switch {
	case code == "" || !charset(code, 0x20):
		return DeviceAuth{}, errors.New("no usable device_code in the answer")
	case !plainCode(auth.UserCode):
		return DeviceAuth{}, errors.New("no usable user_code in the answer")
	}
	if _, err := parseURL(auth.VerificationURI); err != nil {
		return DeviceAuth{}, fmt.Errorf("verification_uri: %w", err)
	}
	if auth.VerificationURIComplete != "" {
		if _, err := parseURL(auth.VerificationURIComplete); err != nil {
			return DeviceAuth{}, fmt.Errorf("verification_uri_complete: %w", err)
		}
	}
	life, said := o.seconds("expires_in")
	if !said || life <= 0 {
		life = defaultLife
	}
	auth.Expiry = sent.Add(min(life, maxLife))
	auth.Interval, said = o.seconds("interval")
	if !said || auth.Interval <= 0 {
		auth.Interval = defaultInterval
	}
	auth.Interval = min(max(auth.Interval, time.Second), maxInterval)
	return auth, nil
}

func plainCode(code string) bool {
	return code != "" && len(code) <= 64 && !strings.ContainsFunc(code, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsPrint(r)
	})
}

// PollDevice asks until the person has decided, the code ran out, or ctx ended
// (RFC 8628 sections 3.4 and 3.5). wait is how it sleeps; nil sleeps by the clock.
func (c *Conn) PollDevice(ctx context.Context, auth DeviceAuth, wait func(context.Context, time.Duration) error) (Token, error) {
	if wait == nil {
		wait = sleep
	}
	pace := pace{interval: auth.Interval}
	if pace.interval <= 0 {
		pace.interval = defaultInterval
	}
	for range maxPolls {
		pause := pace.pause()
		if !auth.Expiry.IsZero() {
			pause = min(pause, max(auth.Expiry.Sub(c.now()), 0))
		}
		if err := wait(ctx, pause); err != nil {
			return Token{}, err
		}
		if err := ctx.Err(); err != nil {
			return Token{}, err
		}
		if !auth.Expiry.IsZero() && !c.now().Before(auth.Expiry) {
			break // asking early instead, to fit one more poll in, would be told slow_down
		}
		token, err := c.token(ctx, url.Values{
			"grant_type":  {"urn:ietf:params:oauth:grant-type:device_code"},
			"device_code": {auth.DeviceCode.Reveal()},
		}, nil)
		if err == nil || !pace.goOn(err) || ctx.Err() != nil {
			return token, err
		}
	}
	return Token{}, &Error{Endpoint: "token", Code: "expired_token", Description: "the code was not confirmed in time"}
}

// A pace is how fast to poll.
type pace struct {
	interval time.Duration
	faults   int           // transport faults and 5xx in a row
	atLeast  time.Duration // Retry-After of the last answer
}

// pause doubles with each fault in a row (RFC 8628 section 3.5).
func (p *pace) pause() time.Duration {
	pause := min(p.interval<<min(p.faults, 6), max(maxInterval, p.interval))
	return max(pause, p.atLeast)
}

// goOn takes the error of one poll and reports whether to poll again.
func (p *pace) goOn(err error) bool {
	var fault *Error
	if !errors.As(err, &fault) {
		return false
	}
	p.atLeast = fault.RetryAfter
	switch {
	case fault.Code == "authorization_pending":
		p.faults = 0
		return true
	case fault.Code == "slow_down":
		p.faults = 0
		p.interval += 5 * time.Second // and stays there for all later polls
		return true
	case fault.Temporary():
		p.faults++
		return p.faults < maxFaults
	}
	return false
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
