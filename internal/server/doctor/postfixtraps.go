package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const setAt = "postconf@c@ -P '@where@/"

// postfixTraps are the rows about Postfix, each a trap that cost somebody a week.
func postfixTraps() []trap[*postfixFacts] {
	submission := func(look func(*postfixFacts, service) string) func(context.Context, *postfixFacts) []sighting {
		return each((*postfixFacts).submissions, look)
	}
	everywhere := func(look func(*postfixFacts, service) string) func(context.Context, *postfixFacts) []sighting {
		return each(func(f *postfixFacts) []service { return f.services }, look)
	}
	return []trap[*postfixFacts]{
		{id: "postfix-version", level: Warning, why: "only Postfix 3.4 to 3.12 are known to speak as this expects; 3.7 is what was run",
			look: func(_ context.Context, f *postfixFacts) []sighting {
				return known(f.version(), "3.4", "3.12")
			}},
		{id: "postfix-no-submission", level: Wrong, why: "without a submission service nobody can send",
			mend: "uncomment submission or submissions in master.cf, then: @again@",
			look: noSubmission},
		{id: "postfix-auth-global", level: Wrong, why: "while the authentication socket is away, an smtpd that offers AUTH dies: here that stops mail from the world",
			mend: setAt + "smtpd_sasl_auth_enable=no' && postfix@c@ reload", look: everywhere(authGlobal)},
		{id: "postfix-auth-off", level: Wrong, why: "nobody can sign in there", mend: setAt + "smtpd_sasl_auth_enable=yes' && postfix@c@ reload",
			look: submission(func(_ *postfixFacts, s service) string { return unless(s.yes("smtpd_sasl_auth_enable"), "AUTH is off") })},
		{id: "postfix-sasl-elsewhere", level: Warning, why: "an outage reaches people as 535 (wrong password) unless Postfix asks letterlockd itself",
			mend: "@again@", look: submission(saslElsewhere)},
		{id: "postfix-chroot", level: Wrong, why: "a chrooted smtpd sees only what is below the queue folder",
			mend: "put the socket below the queue folder in [postfix] of letterlockd.toml, then: @again@", look: submission(hidden)},
		{id: "postfix-sasl-socket", level: Wrong, live: true, why: "no smtpd can start while this fails, and clients see a closed connection",
			mend: "systemctl restart letterlockd.socket letterlockd", look: askEverySASL},
		{id: "postfix-noplaintext", level: Wrong, why: "noplaintext takes away PLAIN, LOGIN, XOAUTH2 and OAUTHBEARER at once",
			mend: setAt + "smtpd_sasl_security_options=noanonymous' && postfix@c@ reload", look: submission(noplaintext)},
		{id: "postfix-anonymous", level: Wrong, why: "without noanonymous a client needs no password where the mechanism is offered",
			mend: setAt + "smtpd_sasl_security_options=noanonymous' && postfix@c@ reload",
			look: submission(func(_ *postfixFacts, s service) string {
				return unless(slices.Contains(words(s.get("smtpd_sasl_security_options")), "noanonymous"), "smtpd_sasl_security_options lacks noanonymous")
			})},
		{id: "postfix-auth-before-tls", level: Wrong, why: "passwords and tokens cross the network in the clear",
			mend: setAt + "smtpd_tls_auth_only=yes' && postfix@c@ reload",
			look: submission(func(_ *postfixFacts, s service) string {
				return unless(s.yes("smtpd_tls_auth_only") || s.yes("smtpd_tls_wrappermode"), "smtpd_tls_auth_only is off")
			})},
		{id: "postfix-no-encrypt", level: Wrong, why: "whoever sits between can keep the session from being encrypted",
			mend: setAt + "smtpd_tls_security_level=encrypt' && postfix@c@ reload",
			look: submission(func(_ *postfixFacts, s service) string {
				return unless(s.get("smtpd_tls_security_level") == "encrypt" || s.yes("smtpd_tls_wrappermode"), "TLS is not demanded")
			})},
		{id: "postfix-sender-map", level: Wrong, why: "any person who signed in can send as any other", mend: "@again@",
			look: submission(func(_ *postfixFacts, s service) string {
				return unless(s.get("smtpd_sender_login_maps") != "", "smtpd_sender_login_maps is empty")
			})},
		{id: "postfix-sender-check", level: Wrong, why: "the map says who owns an address, but only this restriction refuses the others",
			mend: setAt + "smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch' && postfix@c@ reload", look: submission(senderCheck)},
		{id: "postfix-sender-check-late", level: Wrong, why: "a permit ends the list: the sender check behind it is never reached",
			mend: setAt + "smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch' && postfix@c@ reload", look: submission(permitFirst)},
		{id: "postfix-sender-socket", level: Wrong, live: true, why: "while the map does not answer, all mail is answered 451",
			mend: "systemctl restart letterlockd.socket letterlockd", look: askEveryMap},
		{id: "postfix-milter-off", level: Wrong, why: "without our milter the From header and the limits of app passwords are not looked at",
			mend: "@again@", look: submission(milterOff)},
		{id: "postfix-milter-socket", level: Wrong, live: true, why: "while the milter does not answer, mail waits or goes unchecked",
			mend: "systemctl restart letterlockd.socket letterlockd", look: askEveryMilter},
		{id: "postfix-milter-accept", level: Wrong, why: "while the milter is away everybody sends as anybody",
			mend: setAt + "milter_default_action=tempfail' && postfix@c@ reload", look: submission(milterAccept)},
		{id: "postfix-milter-macros", level: Wrong, why: "the milter does not learn who signed in, and refuses everything",
			mend: setAt + "milter_mail_macros=i,{auth_type},{auth_authen},{auth_author},{mail_addr},{mail_host},{mail_mailer}' && postfix@c@ reload",
			look: submission(func(_ *postfixFacts, s service) string {
				return unless(s.get("smtpd_milters") == "" || slices.Contains(words(s.get("milter_mail_macros")), "{auth_authen}"), "milter_mail_macros lacks {auth_authen}")
			})},
		{id: "postfix-bare-newline", level: Wrong, why: "a second message can be smuggled in behind one that was signed in for (CVE-2023-51764)",
			mend: setAt + "smtpd_forbid_bare_newline=normalize' && postfix@c@ reload",
			look: submission(func(_ *postfixFacts, s service) string {
				value := s.get("smtpd_forbid_bare_newline")
				return unless(slices.Contains([]string{"normalize", "reject", "yes"}, value), "smtpd_forbid_bare_newline is "+quoted(value))
			})},
		{id: "postfix-nul", level: Warning, why: "a NUL ends the text for some programs and not for others: what a filter saw is not what is read",
			mend: `postconf@c@ -e 'message_reject_characters=\0' && postfix@c@ reload`,
			look: submission(func(f *postfixFacts, s service) string {
				return unless(f.SQL || strings.Contains(s.ofCleanup("message_reject_characters")+s.ofCleanup("message_strip_characters"), `\0`),
					`neither message_reject_characters nor message_strip_characters holds \0 where its messages are cleaned up`)
			})},
		{id: "postfix-line-limit", level: Wrong, why: "AUTH with an initial response does not fit, and tokens are cut",
			mend: setAt + "line_length_limit=2048' && postfix@c@ reload", look: submission(atLeast("line_length_limit", 2048))},
		{id: "postfix-response-limit", level: Wrong, why: "answers to a challenge do not fit, and tokens are refused",
			mend: setAt + "smtpd_sasl_response_limit=12288' && postfix@c@ reload", look: submission(atLeast("smtpd_sasl_response_limit", 12288))},
		{id: "postfix-open-relay", level: Wrong, why: "anybody can send anything to anywhere through this server",
			mend: setAt + "smtpd_relay_restrictions=permit_sasl_authenticated,reject_unauth_destination' && postfix@c@ reload", look: everywhere(openRelay)},
		{id: "postfix-networks", level: Wrong, why: "permit_mynetworks lets the whole internet in without a password",
			mend: "postconf@c@ -e 'mynetworks=127.0.0.0/8 [::1]/128' && postfix@c@ reload",
			look: func(_ context.Context, f *postfixFacts) []sighting {
				for _, network := range words(f.main["mynetworks"]) {
					if strings.HasSuffix(network, "/0") {
						return []sighting{{where: "main.cf", what: "mynetworks holds " + quoted(network)}}
					}
				}
				return nil
			}},
		{id: "postfix-upstream", level: Warning, why: "whoever reaches the port directly can claim any address: throttling and networks of app passwords go by it",
			mend: "let only the proxy reach the port, or: " + setAt + "smtpd_upstream_proxy_protocol=' && postfix@c@ reload",
			look: submission(func(_ *postfixFacts, s service) string {
				value := s.get("smtpd_upstream_proxy_protocol")
				return unless(value == "", "the client's address is what a header of "+quoted(value)+" says")
			})},
		{id: "postfix-sql-off", level: Wrong, why: "SQL is to say who may send as whom, and is not asked", mend: "@again@", look: submission(notBySQL)},
		{id: "postfix-sql-approved", level: Wrong, why: "proxymap opens no table that is not on its list, and all mail there is answered 451", mend: "@again@", look: unapproved},
		{id: "postfix-sql-table", level: Wrong, live: true, why: "while a table does not answer, mail is answered 451",
			mend: "letterlockd migrate --postfix-role postfix, or look at view_file of [database]; then: @again@", look: askTables},
		{id: "postfix-sql-sample", level: Wrong, live: true, why: "who is not in the views cannot send, or gets no mail", mend: "@again@", look: askSample},
	}
}

// each looks at several services; an empty answer is a good one.
func each(of func(*postfixFacts) []service, look func(*postfixFacts, service) string) func(context.Context, *postfixFacts) []sighting {
	return func(_ context.Context, f *postfixFacts) []sighting {
		var seen []sighting
		for _, s := range of(f) {
			if what := look(f, s); what != "" {
				seen = append(seen, sighting{where: s.name, what: what})
			}
		}
		return seen
	}
}

func unless(good bool, what string) string {
	if good {
		return ""
	}
	return what
}

func quoted(value string) string {
	if value == "" {
		return "not set"
	}
	return strconv.Quote(value)
}

// known wants a version from first up to last, both by their first two numbers.
func known(version, first, last string) []sighting {
	number := func(text string) int {
		parts := strings.SplitN(text, ".", 3)
		if len(parts) < 2 {
			return -1
		}
		major, err1 := strconv.Atoi(parts[0])
		minor, err2 := strconv.Atoi(strings.SplitN(parts[1], "-", 2)[0])
		if err1 != nil || err2 != nil || major > 1000 || minor > 1000 {
			return -1
		}
		return major*1000 + minor
	}
	if n := number(version); n >= number(first) && n <= number(last) {
		return nil
	}
	return []sighting{{what: "this is version " + quoted(version)}}
}

func noSubmission(_ context.Context, f *postfixFacts) []sighting {
	if len(f.submissions()) > 0 {
		return nil
	}
	return []sighting{{where: "master.cf", what: "there is no submission service"}}
}

func authGlobal(_ *postfixFacts, s service) string {
	return unless(s.submits || !s.yes("smtpd_sasl_auth_enable"), "AUTH is on at a service that people do not submit at")
}

func saslElsewhere(f *postfixFacts, s service) string {
	if f.SASL == "" || !s.yes("smtpd_sasl_auth_enable") {
		return ""
	}
	at, ok := f.sasl(s)
	if s.get("smtpd_sasl_type") != "dovecot" {
		return "smtpd_sasl_type is " + quoted(s.get("smtpd_sasl_type"))
	}
	if ok && at.hidden {
		return "" // postfix-chroot tells
	}
	return unless(ok && f.isOurs(at, f.SASL), "smtpd_sasl_path is "+quoted(s.get("smtpd_sasl_path"))+", not "+f.SASL)
}

func hidden(f *postfixFacts, s service) string {
	var out []string
	if at, ok := f.sasl(s); ok && at.hidden && s.yes("smtpd_sasl_auth_enable") {
		out = append(out, "smtpd_sasl_path")
	}
	for _, at := range f.maps(s) {
		if at.hidden {
			out = append(out, "smtpd_sender_login_maps")
		}
	}
	for _, m := range f.milters(s) {
		if m.ok && m.socket.hidden {
			out = append(out, "smtpd_milters")
		}
	}
	return unless(len(out) == 0, strings.Join(out, ", ")+": an absolute path, and the service runs in a chroot")
}

func noplaintext(_ *postfixFacts, s service) string {
	options := words(s.get("smtpd_sasl_security_options"))
	if s.get("smtpd_tls_security_level") == "encrypt" || s.yes("smtpd_tls_wrappermode") {
		options = append(options, words(s.get("smtpd_sasl_tls_security_options"))...)
	}
	return unless(!slices.Contains(options, "noplaintext"), "noplaintext is set")
}

const senderMismatch = "sender_login_mismatch"

func senderCheck(_ *postfixFacts, s service) string {
	weak := false
	for _, list := range []string{"smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions", "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_data_restrictions"} {
		for _, word := range s.restrictions(list) {
			switch word {
			case "reject_authenticated_" + senderMismatch, "reject_" + senderMismatch:
				return ""
			case "reject_known_" + senderMismatch:
				weak = true
			}
		}
	}
	if weak {
		return "reject_known_sender_login_mismatch lets every address through that is not in the map"
	}
	return "no restriction looks at smtpd_sender_login_maps"
}

// permitFirst finds a sender check that no list reaches.
func permitFirst(_ *postfixFacts, s service) string {
	late := ""
	for _, list := range []string{"smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions", "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_data_restrictions"} {
		permit := ""
		for _, word := range s.restrictions(list) {
			switch {
			case word == "permit", word == "permit_mynetworks", word == "permit_sasl_authenticated":
				permit = word
			case strings.HasSuffix(word, senderMismatch) && permit == "":
				return ""
			case strings.HasSuffix(word, senderMismatch):
				late = fmt.Sprintf("%s comes before %s in %s", permit, word, list)
			}
		}
	}
	return late
}

func milterOff(f *postfixFacts, s service) string {
	if f.Milter == "" {
		return ""
	}
	if slices.Contains(words(s.get("receive_override_options")), "no_milters") {
		return "receive_override_options holds no_milters"
	}
	for _, m := range f.milters(s) {
		if m.ours || m.ok && m.socket.hidden {
			return ""
		}
	}
	return "smtpd_milters is " + quoted(s.get("smtpd_milters"))
}

func milterAccept(_ *postfixFacts, s service) string {
	f := &postfixFacts{Postfix: &Postfix{}, main: s.main}
	for _, m := range f.milters(s) {
		if m.action == "accept" {
			return "milter_default_action is accept"
		}
	}
	return ""
}

func atLeast(name string, least int) func(*postfixFacts, service) string {
	return func(_ *postfixFacts, s service) string {
		n, err := strconv.Atoi(s.get(name))
		return unless(err == nil && n >= least, fmt.Sprintf("%s is %s, below %d", name, quoted(s.get(name)), least))
	}
}

// openRelay wants a refusal before the first unconditional permit: in the relay
// restrictions or, as before Postfix 2.10, in those about recipients.
func openRelay(_ *postfixFacts, s service) string {
	for _, list := range []string{"smtpd_relay_restrictions", "smtpd_recipient_restrictions"} {
		for _, word := range s.restrictions(list) {
			switch word {
			case "reject", "defer", "defer_if_permit", "defer_unauth_destination", "reject_unauth_destination":
				return ""
			}
			if word == "permit" {
				break
			}
		}
	}
	return "neither smtpd_relay_restrictions nor smtpd_recipient_restrictions refuses foreign destinations"
}

// askEach asks each different socket once.
func (f *postfixFacts) askEach(ctx context.Context, of func(service) []socket, ask func(socket) error) []sighting {
	var seen []sighting
	asked := map[socket]bool{}
	for _, s := range f.submissions() {
		for _, at := range of(s) {
			if at.hidden || asked[at] {
				continue // one that the chroot hides is a row of its own
			}
			asked[at] = true
			if err := ask(at); err != nil && ctx.Err() == nil {
				seen = append(seen, sighting{where: at.address, what: err.Error()})
			}
		}
	}
	return seen
}

func askEverySASL(ctx context.Context, f *postfixFacts) []sighting {
	return f.askEach(ctx, func(s service) []socket {
		at, ok := f.sasl(s)
		if !ok || !s.yes("smtpd_sasl_auth_enable") || s.get("smtpd_sasl_type") != "dovecot" {
			return nil
		}
		return []socket{at}
	}, func(at socket) error {
		conn, err := f.dial(ctx, at)
		if err != nil {
			return err
		}
		defer conn.Close()
		return askSASL(conn)
	})
}

func askEveryMap(ctx context.Context, f *postfixFacts) []sighting {
	return f.askEach(ctx, f.maps, func(at socket) error {
		conn, err := f.dial(ctx, at)
		if err != nil {
			return err
		}
		defer conn.Close()
		return askMap(conn, at.mapName, "postmaster@"+f.Domain)
	})
}

func askEveryMilter(ctx context.Context, f *postfixFacts) []sighting {
	return f.askEach(ctx, func(s service) []socket {
		var all []socket
		for _, m := range f.milters(s) {
			if m.ok {
				all = append(all, m.socket)
			}
		}
		return all
	}, func(at socket) error {
		conn, err := f.dial(ctx, at)
		if err != nil {
			return err
		}
		defer conn.Close()
		return askMilter(conn)
	})
}
