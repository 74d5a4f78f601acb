package authserver

import (
	"slices"
	"strings"
)

// The scopes of this server. SendOnly is one that a person can choose over what the
// program asked for; ScopeMail is the whole mailbox as the mailmaint drafts name it.
const (
	ScopeIMAP     = "imap"
	ScopePOP3     = "pop3"
	ScopeSMTP     = "smtp"
	ScopeSieve    = "sieve"
	ScopeSendOnly = "send-only"
	ScopeMail     = "urn:ietf:params:oauth:scope:mail"
	ScopeOffline  = "offline_access"
	ScopeOpenID   = "openid"
	ScopeEmail    = "email"
	ScopeProfile  = "profile"
)

// knownScopes lists what the server knows, in the order of its pages. Who signed in
// can be told only where ID tokens are signed.
func (s *Server) knownScopes() []string {
	known := []string{ScopeIMAP, ScopePOP3, ScopeSMTP, ScopeSieve, ScopeSendOnly, ScopeMail, ScopeOffline}
	if s.ids != nil {
		known = append(known, ScopeOpenID, ScopeEmail, ScopeProfile)
	}
	return known
}

// Scopes lists every scope there is.
func Scopes() []string {
	return []string{ScopeIMAP, ScopePOP3, ScopeSMTP, ScopeSieve, ScopeSendOnly, ScopeMail, ScopeOffline, ScopeOpenID, ScopeEmail, ScopeProfile}
}

// describeScope is what a person reads on the consent page.
func describeScope(scope string) string {
	switch scope {
	case ScopeIMAP:
		return "read, change and delete all your mail (IMAP)"
	case ScopePOP3:
		return "fetch and delete mail of your inbox (POP3)"
	case ScopeSMTP:
		return "send mail as you"
	case ScopeSieve:
		return "change your mail filters (Sieve)"
	case ScopeSendOnly:
		return "send mail as you, and nothing else"
	case ScopeMail:
		return "read, change, delete and send all your mail, and change your mail filters"
	case ScopeOpenID:
		return "know that it is you"
	case ScopeEmail:
		return "know your mail address"
	case ScopeProfile:
		return "know your name"
	case ScopeOffline:
		return "go on doing so while you are away, until you revoke it"
	}
	return scope
}

// grantScopes turns the scope parameter into what can be granted. Unknown scopes are
// left out (RFC 6749 section 3.3 allows it if the answer says so): mail programs ask
// for calendars and contacts in the same breath. No scope at all means all mail.
// ok is false when nothing of ours remains. Who asks only who the person is gets just
// that: such a token opens no mailbox.
func (s *Server) grantScopes(asked string) (scopes []string, ok bool) {
	if strings.TrimSpace(asked) == "" {
		return []string{ScopeMail}, true
	}
	words := strings.Fields(asked)
	for _, scope := range s.knownScopes() {
		if slices.Contains(words, scope) {
			scopes = append(scopes, scope)
		}
	}
	if slices.Contains(scopes, ScopeSendOnly) {
		scopes = onlySend(scopes)
	}
	return scopes, useful(scopes)
}

// useful: scopes that are good for something by themselves.
func useful(scopes []string) bool {
	return len(effectiveScopes(scopes)) > 0 || slices.Contains(scopes, ScopeOpenID)
}

// onlySend narrows what may be done with the mail to sending.
func onlySend(scopes []string) []string {
	narrow := []string{ScopeSendOnly}
	for _, scope := range []string{ScopeOffline, ScopeOpenID, ScopeEmail, ScopeProfile} {
		if slices.Contains(scopes, scope) {
			narrow = append(narrow, scope)
		}
	}
	return narrow
}

// canSend reports whether scopes hold sending and more, so that a person can be
// offered sending alone.
func canSend(scopes []string) bool {
	return slices.Contains(scopes, ScopeMail) || slices.Contains(scopes, ScopeSMTP) && len(effectiveScopes(scopes)) > 1
}

// effectiveScopes are the mail scopes that a mail server sees: what implies another
// is written out, since servers compare words and take any one of a list. Scopes that
// are nothing to a mail server are left out.
func effectiveScopes(scopes []string) []string {
	var seen []string
	add := func(names ...string) {
		for _, name := range names {
			if !slices.Contains(seen, name) {
				seen = append(seen, name)
			}
		}
	}
	for _, scope := range scopes {
		switch scope {
		case ScopeMail:
			add(ScopeMail, ScopeIMAP, ScopePOP3, ScopeSMTP, ScopeSieve)
		case ScopeSendOnly:
			add(ScopeSendOnly, ScopeSMTP)
		case ScopeIMAP, ScopePOP3, ScopeSMTP, ScopeSieve:
			add(scope)
		}
	}
	return seen
}

// narrower returns the scopes that a refresh asks for, if they are among those
// granted (RFC 6749 section 6).
func narrower(granted []string, asked string) ([]string, bool) {
	if strings.TrimSpace(asked) == "" {
		return granted, true
	}
	have := append(slices.Clone(granted), effectiveScopes(granted)...)
	var scopes []string
	for _, word := range strings.Fields(asked) {
		if !slices.Contains(have, word) {
			return nil, false
		}
		if !slices.Contains(scopes, word) {
			scopes = append(scopes, word)
		}
	}
	return scopes, useful(scopes)
}
