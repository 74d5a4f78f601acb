// Package recipe writes what Postfix and Dovecot need to ask letterlockd: what
// `letterlockd config postfix` and `config dovecot` print. Each text was run as printed
// against the versions that it names; one that was not says so in its first line.
//
// All of it is additive. Logins that were there before go on, and the last lines of each
// text undo it. The package reads nothing and runs nothing: cmd fills in the facts.
package recipe

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
)

// Postfix are the facts about one Postfix.
type Postfix struct {
	Version  string
	QueueDir string // queue_directory
	// Folder is that of a Postfix other than the one that postconf knows by itself: the
	// script must not change the wrong one. Empty: that one.
	Folder string
	// Services that people submit at, as postconf -M names them: "submission/inet".
	Services []string
	// Milters and Restrictions are smtpd_milters and smtpd_sender_restrictions of main.cf.
	// What a service uses already is kept: our milter comes last, our restriction first.
	Milters, Restrictions string
	// Before is what master.cf sets at these services today, as postconf -P names it:
	// "submission/inet/smtpd_sasl_auth_enable" to "yes".
	Before map[string]string
	// Cleanup is the line of master.cf of the cleanup service that they use today, as
	// postconf -M prints it.
	Cleanup string

	SASL, Senders, Milter string // sockets of letterlockd; empty: off

	// Recipients: Postfix asks Senders about aliases and mailboxes too.
	Recipients *MainCF

	// SQL takes the place of the three sockets.
	SQL *PostfixSQL
}

// A setting is one -o of a service in master.cf.
type setting struct{ name, value, why string }

// Script is a shell script that switches it on.
func (p Postfix) Script() string {
	var b strings.Builder
	services := strings.Join(p.Services, " and ")
	switch {
	case p.Recipients != nil:
		fmt.Fprintf(&b, "#!/bin/sh\n# Postfix %s asks letterlockd: about people at %s, about aliases and recipients\n# everywhere. While letterlockd is away all mail waits with its sender (451, 454).\n", p.Version, services)
	case p.SQL == nil:
		fmt.Fprintf(&b, "#!/bin/sh\n# Postfix %s asks letterlockd, at %s only: nothing changes for mail from elsewhere.\n# Which recipients there are is not its business here; with --recipients it is.\n", p.Version, services)
	default:
		fmt.Fprintf(&b, "#!/bin/sh\n# Postfix %s goes on without letterlockd, by SQL: sign-in and senders at %s, aliases and\n# recipients everywhere.\n", p.Version, services)
	}
	b.WriteString("# Run this as root; the way back stands at its end.\n")
	if p.SQL != nil {
		b.WriteString(sqlHead)
	}
	b.WriteString("set -e\n" + p.which())
	if p.SQL != nil {
		p.SQL.write(&b)
	}
	if changes, notes := p.mainChanges(); p.Recipients != nil {
		b.WriteString("\n# main.cf: a recipient that nobody has is refused with 550.\n")
		writeChanges(&b, changes, notes)
	}
	if p.milter() {
		fmt.Fprintf(&b, "\n# Postfix shows a milter nothing behind a NUL, and some readers read on there. Only a cleanup\n"+
			"# service can refuse it: these services get one of their own, like the one they have.\npostconf -M %s\npostconf -P %s\n",
			quote(cleanupName+"/unix="+p.ownCleanup()), quote(cleanupName+`/unix/message_reject_characters=\0`))
	}
	for _, service := range p.Services {
		fmt.Fprintf(&b, "\n# %s\n%s", service, p.today(service))
		for _, s := range p.settings(service) {
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

// which tells postconf and postfix of which Postfix they are.
func (p Postfix) which() string {
	if p.Folder == "" {
		return ""
	}
	return "export MAIL_CONFIG=" + quote(p.Folder) + "\n"
}

// Undo is the commands that bring back what there was before.
func (p Postfix) Undo() string {
	var b strings.Builder
	b.WriteString(p.which())
	for _, service := range p.Services {
		for _, s := range p.settings(service) {
			name := service + "/" + s.name
			if before, was := p.Before[name]; was {
				fmt.Fprintf(&b, "postconf -P %s\n", quote(name+"="+commas(before)))
			} else {
				fmt.Fprintf(&b, "postconf -PX %s\n", quote(name))
			}
		}
	}
	if p.SQL != nil {
		p.SQL.undo(&b, p.Before)
	}
	if p.Recipients != nil {
		changes, _ := p.mainChanges()
		p.Recipients.undoChanges(&b, changes)
	}
	switch {
	case !p.milter():
	case strings.Fields(p.Cleanup)[0] == cleanupName:
		fmt.Fprintf(&b, "postconf -M %s\n", quote(cleanupName+"/unix="+p.Cleanup))
	default:
		fmt.Fprintf(&b, "postconf -MX %s\n", cleanupName+"/unix")
	}
	b.WriteString("postfix reload\n")
	return b.String()
}

// cleanupName is the cleanup service of submissions.
const cleanupName = "letterlock-cleanup"

// ownCleanup is the line of the service in use under our name, with all that it sets.
func (p Postfix) ownCleanup() string {
	fields := strings.Fields(p.Cleanup)
	return strings.Join(append([]string{cleanupName}, fields[1:]...), " ")
}

// mainChanges are those of main.cf where letterlockd's socket knows the recipients.
func (p Postfix) mainChanges() (changes []change, notes []string) {
	if p.Recipients == nil {
		return nil, nil
	}
	maps := "socketmap:" + p.place(p.Senders, "unix:")
	return p.Recipients.recipients([]string{maps + ":aliases"}, maps+":mailboxes")
}

// milter reports whether messages pass ours.
func (p Postfix) milter() bool { return p.SQL == nil && p.Milter != "" }

func (p Postfix) settings(service string) []setting {
	if p.SQL != nil {
		return p.SQL.settings(p, service)
	}
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
			setting{"smtpd_sender_restrictions", first(ownSender, p.inUse(service, "smtpd_sender_restrictions", p.Restrictions)), ""},
		)
	}
	if p.Milter != "" {
		milters := beside(p.inUse(service, "smtpd_milters", p.Milters), p.place(p.Milter, "unix:"))
		all = append(all,
			setting{"smtpd_milters", milters, "Nobody sends as another: the From header; and the limits of app passwords."},
			setting{"cleanup_service_name", cleanupName, ""},
			setting{"milter_default_action", "tempfail", "While letterlockd is away mail waits with its sender; it is never let through unchecked."},
		)
	}
	return append(all, setting{"smtpd_forbid_bare_newline", "normalize", "A message ends in one way only (CVE-2023-51764)."})
}

// today says of each option that a service sets what becomes of it.
func (p Postfix) today(service string) string {
	becomes := map[string]string{}
	for _, s := range p.settings(service) {
		becomes[s.name] = s.value
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.Before)) {
		option, ours := strings.CutPrefix(name, service+"/")
		if !ours {
			continue
		}
		fate := "kept"
		if value, set := becomes[option]; set && value != commas(p.Before[name]) {
			fate = "changed: " + changed(option)
		}
		fmt.Fprintf(&b, "#   -o %-50s %s\n", option+"="+p.Before[name], fate)
	}
	if b.Len() == 0 {
		return ""
	}
	return "# What is set there today:\n" + b.String()
}

// changed is why an option does not stay.
func changed(option string) string {
	switch option {
	case "smtpd_sender_restrictions":
		return "ours first, because a permit ends the list"
	case "smtpd_sender_login_maps":
		return "addresses have the owners that letterlockd knows"
	case "smtpd_sasl_type", "smtpd_sasl_path", "smtpd_sasl_auth_enable":
		return "whom it asks about a sign-in"
	case "smtpd_sasl_security_options":
		return "noplaintext would take every mechanism away"
	case "smtpd_tls_auth_only":
		return "a secret would cross the network in the clear"
	case "smtpd_milters":
		return "ours last, behind those that add fields"
	case "cleanup_service_name":
		return "only a cleanup service can refuse a NUL"
	case "milter_default_action":
		return "mail is never let through unchecked"
	}
	return "a message must end in one way only"
}

// inUse is what a service uses today: its own setting, else that of main.cf.
func (p Postfix) inUse(service, name, main string) string {
	if own, set := p.Before[service+"/"+name]; set {
		return own
	}
	return main
}

// ownSender stands before all other restrictions: a permit among them would end the list.
const ownSender = "reject_authenticated_sender_login_mismatch"

// commas writes a list as postconf -P takes it, which is without blanks.
func commas(list string) string {
	return strings.Join(strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }), ",")
}

// first puts a word before a list, once however often the script is run.
func first(word, list string) string {
	list = commas(list)
	if list == "" || list == word {
		return word
	}
	return word + "," + strings.TrimPrefix(list, word+",")
}

// beside puts a word behind a list, likewise: a milter that is asked twice counts twice.
func beside(list, word string) string {
	list = commas(list)
	switch {
	case list == "":
		return word
	case list == word, strings.HasSuffix(list, ","+word):
		return list
	}
	return list + "," + word
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
	if p.SQL != nil {
		faults = append(faults, p.SQL.Table.Faults()...)
	}
	if p.Recipients != nil && p.Senders == "" {
		faults = append(faults, "--recipients needs senders in [postfix], the socket that knows the addresses")
	}
	if p.milter() && len(p.Services) > 0 && len(strings.Fields(p.Cleanup)) < 8 {
		faults = append(faults, "the submission services do not share one cleanup service of master.cf: give them the same cleanup_service_name")
	}
	for _, service := range p.Services {
		for _, name := range []string{"smtpd_milters", "smtpd_sender_restrictions"} {
			if (p.milter() || name != "smtpd_milters") && strings.ContainsAny(p.Before[service+"/"+name], "{}") {
				faults = append(faults, fmt.Sprintf("%s of %s has braces, which postconf cannot set: add ours by hand, or take the braces out for now", name, service))
			}
		}
	}
	if p.milter() && strings.ContainsAny(p.Milters, "{}") {
		faults = append(faults, "smtpd_milters has braces, which postconf cannot set for a service: add ours by hand, or take the braces out for now")
	}
	for name, place := range map[string]string{"sasl": p.SASL, "senders": p.Senders, "milter": p.Milter} {
		if p.SQL == nil && filepath.IsAbs(place) && !strings.HasPrefix(place, p.QueueDir+"/") {
			faults = append(faults, fmt.Sprintf("%s in [postfix] is not below %s: an smtpd in its chroot cannot reach it", name, p.QueueDir))
		}
	}
	return faults
}

// quote writes a word for a POSIX shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
