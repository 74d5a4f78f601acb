package portal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A moment is a time as pages write it.
type moment struct{ Machine, Clock, Ago string }

func (v *visit) moment(at time.Time) *moment {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	return &moment{at.Format(time.RFC3339), at.Format("2 Jan 2006, 15:04 UTC"), ago(v.now.Sub(at))}
}

// ago says roughly how long ago, or in how long.
func ago(d time.Duration) string {
	form := "%s ago"
	if d < 0 {
		d, form = -d, "in %s"
	}
	switch {
	case d < 90*time.Second && form == "%s ago":
		return "just now"
	case d < 59*time.Minute+30*time.Second:
		return fmt.Sprintf(form, plural(int((d+30*time.Second)/time.Minute), "minute"))
	case d < 36*time.Hour:
		return fmt.Sprintf(form, plural(int((d+30*time.Minute)/time.Hour), "hour"))
	}
	return fmt.Sprintf(form, plural(int((d+12*time.Hour)/(24*time.Hour)), "day"))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// protocols are those there are, in the order of the pages.
func protocols() []identity.Protocol {
	return []identity.Protocol{identity.IMAP, identity.SMTP, identity.POP3, identity.Sieve}
}

func protocolWords(p identity.Protocol) string {
	switch p {
	case identity.IMAP:
		return "read mail (IMAP)"
	case identity.POP3:
		return "fetch mail (POP3)"
	case identity.SMTP:
		return "send mail (SMTP)"
	case identity.Sieve:
		return "change filters (ManageSieve)"
	}
	return string(p)
}

func protocolName(p identity.Protocol) string {
	switch p {
	case identity.IMAP:
		return "IMAP"
	case identity.POP3:
		return "POP3"
	case identity.SMTP:
		return "SMTP"
	case identity.Sieve:
		return "ManageSieve"
	}
	return string(p)
}

// rights says in plain words what an app password may do, one sentence a line.
func rights(c identity.Credential) []string {
	var lines []string
	if len(c.Protocols) == 0 {
		lines = append(lines, "May read and send mail and change filters")
	} else {
		var words []string
		for _, p := range protocols() {
			if slices.Contains(c.Protocols, p) {
				words = append(words, protocolWords(p))
			}
		}
		lines = append(lines, "May "+and(words)+only(len(c.Protocols) < len(protocols())))
	}
	sends := len(c.Protocols) == 0 || slices.Contains(c.Protocols, identity.SMTP)
	if sends && len(c.Senders) > 0 {
		lines = append(lines, "Sends only as "+and(c.Senders))
	}
	if sends && len(c.Recipients) > 0 {
		lines = append(lines, "Sends only to "+and(everybody(c.Recipients)))
	}
	if sends && c.PerHour > 0 {
		lines = append(lines, "Sends at most "+plural(c.PerHour, "message")+" an hour")
	}
	if len(c.Networks) > 0 {
		var words []string
		for _, n := range c.Networks {
			words = append(words, n.String())
		}
		lines = append(lines, "Works only from "+and(words))
	}
	return lines
}

func only(limited bool) string {
	if limited {
		return ", nothing else"
	}
	return ""
}

// everybody writes "@example.org" so that nobody takes it for a mistake.
func everybody(recipients []string) []string {
	words := make([]string, len(recipients))
	for i, r := range recipients {
		words[i] = r
		if strings.HasPrefix(r, "@") {
			words[i] = "everybody at " + r[1:]
		}
	}
	return words
}

func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// scopeWords is what a program with tokens may do.
func scopeWords(scope string) string {
	switch scope {
	case "imap":
		return "Read, change and delete all your mail (IMAP)"
	case "pop3":
		return "Fetch and delete mail of your inbox (POP3)"
	case "smtp":
		return "Send mail as you"
	case "sieve":
		return "Change your mail filters (Sieve)"
	case "send-only":
		return "Send mail as you, and nothing else"
	case "urn:ietf:params:oauth:scope:mail":
		return "Read, change, delete and send all your mail, and change your mail filters"
	case "openid":
		return "Know that it is you"
	case "email":
		return "Know your mail address"
	case "profile":
		return "Know your name"
	case "offline_access":
		return "Go on while you are away, until you revoke it"
	}
	return scope
}

// howWords is how somebody signed in.
func howWords(how string) string {
	kind, detail, _ := strings.Cut(how, ":")
	switch kind {
	case "github":
		return "by GitHub"
	case "oidc":
		return "by " + strings.TrimPrefix(detail, "https://")
	case "passkey":
		return "by passkey"
	case "recovery":
		return "by recovery code"
	case "":
		return ""
	}
	return "by " + how
}

// factorWords is what was proved besides.
func factorWords(s identity.Session) string {
	switch {
	case string(s.Factor) == s.How:
		return ""
	case s.Factor == identity.ByPasskey:
		return ", and a passkey"
	case s.Factor == identity.ByTOTP:
		return ", and a code of an app"
	case s.Factor == identity.ByRecovery:
		return ", and a recovery code"
	}
	return ""
}

// kindWords is what happened, for people; an unknown kind is shown as it is.
func kindWords(kind string) string {
	switch kind {
	case "signin.ok":
		return "Signed in"
	case "signin.refused":
		return "Sign-in refused"
	case "signout", "signin.out":
		return "Signed out"
	case "signin.bound":
		return "Account tied to the mailbox"
	case "signin.invited":
		return "Invitation made"
	case "factor.added":
		return "Second factor added"
	case "factor.removed":
		return "Second factor removed"
	case "factor.proved":
		return "Proved once more"
	case "factor.refused":
		return "Second factor refused"
	case "factor.cloned":
		return "A passkey that exists twice was refused"
	case "recovery.made":
		return "Recovery codes made"
	case "recovery.used":
		return "Recovery code used"
	case "credential.made":
		return "App password made"
	case "credential.revoked":
		return "App password revoked"
	case "grant.made":
		return "Program allowed"
	case "grant.revoked":
		return "Program revoked"
	case "session.ended":
		return "Browser signed out"
	case "person.added":
		return "Person added"
	case "person.admin":
		return "Became an administrator"
	case "person.disabled":
		return "Person disabled"
	case "person.enabled":
		return "Person enabled"
	case "person.removed":
		return "Person removed"
	case "hold.released":
		return "Forgotten what was held against an address"
	case "address.changed":
		return "Address changed"
	case "address.removed":
		return "Address removed"
	case "ban.added":
		return "Network refused"
	case "ban.allowed":
		return "Network never throttled"
	case "ban.removed":
		return "List entry removed"
	}
	return kind
}

// noticeWords is what a page says after something was done. It comes as a word in the
// address, so it is one of these or nothing.
func noticeWords(done string) string {
	switch done {
	case "revoked":
		return "Revoked. It opens nothing from now on."
	case "allowed":
		return "Allowed again."
	case "ended":
		return "That browser is signed out."
	case "ended-others":
		return "All other browsers are signed out."
	case "welcome":
		return "You are signed in. Next time, use the same passkey. Make recovery codes now, in case you lose it."
	case "recovered":
		return "You are signed in by a recovery code, which is spent now. Add a passkey before you leave, and remove the lost one."
	case "factor-added":
		return "Added. You are asked for it from now on."
	case "factor-removed":
		return "Removed. It proves nothing from now on."
	case "added":
		return "Added."
	case "changed":
		return "Changed."
	case "removed":
		return "Removed."
	case "released":
		return "Forgotten. Who is made with that address is let in."
	case "disabled":
		return "Disabled. Passwords, programs and browsers of this person are refused."
	case "enabled":
		return "Enabled. What was not revoked works again."
	}
	return ""
}
