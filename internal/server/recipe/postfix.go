// Package recipe writes what Postfix and Dovecot need to ask letterlockd: what
// `letterlockd config postfix` and `config dovecot` print. Each text was run as printed
// against the versions that it names; one that was not says so in its first line.
//
// All of it is additive. Logins that were there before go on, and the last lines of each
// text undo it. The package reads nothing and runs nothing: cmd fills in the facts.
package recipe

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// Postfix are the facts about one Postfix.
type Postfix struct {
	Version  string
	QueueDir string // queue_directory
	// Services that people submit at, as postconf -M names them: "submission/inet".
	Services []string
	// Milters that smtpd_milters names already; ours comes after them.
	Milters string
	// Before is what master.cf sets at these services today, as postconf -P names it:
	// "submission/inet/smtpd_sasl_auth_enable" to "yes".
	Before map[string]string

	SASL, Senders, Milter string // sockets of letterlockd; empty: off
}

// A setting is one -o of a service in master.cf.
type setting struct{ name, value, why string }

// Script is a shell script that switches it on.
func (p Postfix) Script() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#!/bin/sh\n# Postfix %s asks letterlockd, at %s only: nothing changes for mail from elsewhere.\n", p.Version, strings.Join(p.Services, " and "))
	b.WriteString("# Run this as root; the way back stands at its end.\nset -e\n")
	for _, service := range p.Services {
		fmt.Fprintf(&b, "\n# %s\n", service)
		for _, s := range p.settings() {
			if s.why != "" {
				fmt.Fprintf(&b, "# %s\n", s.why)
			}
			fmt.Fprintf(&b, "postconf -P %s\n", quote(service+"/"+s.name+"="+s.value))
		}
	}
	b.WriteString("\npostfix check\npostfix reload\n\n# The way back to what stands there today:\n")
	for line := range strings.Lines(p.Undo()) {
		b.WriteString("#   " + line)
	}
	return b.String()
}

// Undo is the commands that bring back what there was before.
func (p Postfix) Undo() string {
	var b strings.Builder
	for _, service := range p.Services {
		for _, s := range p.settings() {
			name := service + "/" + s.name
			if before, was := p.Before[name]; was {
				fmt.Fprintf(&b, "postconf -P %s\n", quote(name+"="+before))
			} else {
				fmt.Fprintf(&b, "postconf -PX %s\n", quote(name))
			}
		}
	}
	b.WriteString("postfix reload\n")
	return b.String()
}

func (p Postfix) settings() []setting {
	var all []setting
	if p.SASL != "" {
		all = append(all,
			setting{"smtpd_sasl_auth_enable", "yes", "Sign-in, by letterlockd's socket in Dovecot's protocol."},
			setting{"smtpd_sasl_type", "dovecot", ""},
			setting{"smtpd_sasl_path", p.place(p.SASL, ""), ""},
			setting{"smtpd_sasl_security_options", "noanonymous", ""},
			setting{"smtpd_tls_auth_only", "yes", "No secret before TLS."},
		)
	}
	if p.Senders != "" {
		all = append(all,
			setting{"smtpd_sender_login_maps", "socketmap:" + p.place(p.Senders, "unix:") + ":senders", "Nobody sends as another: the envelope."},
			setting{"smtpd_sender_restrictions", "reject_authenticated_sender_login_mismatch", ""},
		)
	}
	if p.Milter != "" {
		milters := p.place(p.Milter, "unix:")
		if p.Milters != "" {
			milters = p.Milters + ", " + milters
		}
		all = append(all,
			setting{"smtpd_milters", milters, "Nobody sends as another: the From header; and the limits of app passwords."},
			setting{"milter_default_action", "tempfail", "While letterlockd is away mail waits with its sender; it is never let through unchecked."},
		)
	}
	return append(all, setting{"smtpd_forbid_bare_newline", "normalize", "A message ends in one way only (CVE-2023-51764)."})
}

// place names a socket as Postfix does: relative to the queue folder, where a chrooted
// smtpd finds it too.
func (p Postfix) place(place, unix string) string {
	if _, _, err := net.SplitHostPort(place); err == nil && !filepath.IsAbs(place) {
		return "inet:" + place
	}
	if below, err := filepath.Rel(p.QueueDir, place); err == nil && !strings.HasPrefix(below, "..") {
		return unix + below
	}
	return unix + place
}

// Faults are reasons why the recipe would not work as it stands.
func (p Postfix) Faults() []string {
	var faults []string
	if len(p.Services) == 0 {
		faults = append(faults, "Postfix has no submission service: add submission or submissions to master.cf first")
	}
	for name, place := range map[string]string{"sasl": p.SASL, "senders": p.Senders, "milter": p.Milter} {
		if filepath.IsAbs(place) && !strings.HasPrefix(place, p.QueueDir+"/") {
			faults = append(faults, fmt.Sprintf("%s in [postfix] is not below %s: an smtpd in its chroot cannot reach it", name, p.QueueDir))
		}
	}
	return faults
}

// quote writes a word for a POSIX shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
