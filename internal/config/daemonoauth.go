package config

import "time"

// OAuth is the [oauth] section: the authorization server for mail. It is there whenever
// there are pages.
type OAuth struct {
	Registration bool // programs may register themselves
	Open         bool // the client id "open"
	NoDevice     bool // no device codes
	Access       time.Duration
	Refresh      time.Duration
}

func oauthFields() []field[OAuth] {
	type o = OAuth
	return []field[o]{
		{"registration", "let mail programs register themselves (RFC 7591), so that people need neither client id nor administrator; a program's name is then its own word, and pages say so; default: false", `true`, boolean(func(v *o) *bool { return &v.Registration })},
		{"open_client", "take the client id \"open\" of programs on the person's own computer, where registration is off; default: false", `false`, boolean(func(v *o) *bool { return &v.Open })},
		{"no_device_codes", "leave out signing in by a code that is typed elsewhere, which can be used to phish; default: false", `false`, boolean(func(v *o) *bool { return &v.NoDevice })},
		{"access_lifetime", "how long an access token opens a mailbox; default: \"1h\"", `"1h"`, duration(func(v *o) *time.Duration { return &v.Access }, 10*time.Second, 24*time.Hour)},
		{"refresh_lifetime", "how long a program may stay away before the person has to sign in again; default: \"2160h\"", `"2160h"`, duration(func(v *o) *time.Duration { return &v.Refresh }, time.Hour, 2*365*24*time.Hour)},
	}
}
