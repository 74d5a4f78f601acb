package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/sasl"
)

// advise says what an error means: what the error book knows, what the server's JSON
// says, what the kind of error says, and whose token it is.
func (r *run) advise(step string, err error) []Advice {
	var all []Advice
	if r.plan.Explainer != nil {
		all = append(all, r.plan.Explainer.Explain(err.Error())...)
	}
	if refusal, ok := errors.AsType[*upstream.AuthError](err); ok {
		all = append(all, r.refusal(refusal)...)
	}
	if a, ok := known(err); ok {
		all = append(all, a)
	}
	if issuedFor := audience(r.token.Reveal()); step == StepSignIn && issuedFor != "" && !passing(err) {
		all = append(all, Advice{
			Cause:  "the token says that it is for " + issuedFor,
			Remedy: "if that is not this server's service, use the token for it: letterlock token ACCOUNT --for imap, pop3 or smtp",
		})
	}
	signedIn := step == StepSignIn || step == StepMailbox
	if signedIn && ownership(r.plan.Owner, r.plan.Mailbox) == Different {
		all = append(all, Advice{
			Cause:  fmt.Sprintf("the token belongs to %s, the mailbox is %s", r.plan.Owner, r.plan.Mailbox),
			Remedy: "sign in as the mailbox's own user, or, for a shared mailbox, ask its owner for access and check the login identity",
		})
	} else if step == StepMailbox {
		all = append(all, Advice{
			Cause:  "the server took the token and then did not open the mailbox: its owner has none under this name, or the protocol is switched off for it",
			Remedy: "compare the address with the one that signed in, and ask whether IMAP and POP are on for the mailbox",
		})
	}
	return all
}

// refusal reads the server's JSON and, where nobody has said anything, the reply.
func (r *run) refusal(refusal *upstream.AuthError) []Advice {
	if refusal.Temporary {
		return []Advice{{
			Cause:  "the server cannot check tokens at the moment, or slows this address down",
			Remedy: "try again in some minutes",
		}}
	}
	told, ok := sasl.ParseRefusal([]byte(refusal.Challenge))
	if !ok {
		return nil
	}
	var all []Advice
	switch told.Status {
	case "insufficient_scope", "403":
		all = append(all, Advice{
			Cause:  "the token lacks the right for this protocol" + named(", it takes the scope ", told.Scope),
			Remedy: "sign in again and ask for that scope",
		})
	case "invalid_token", "401", "400":
		all = append(all, Advice{
			Cause:  "the server does not accept the token: expired, revoked, for another service or another user" + named("; it wants the scope ", told.Scope),
			Remedy: "get a new token; if that is refused too, compare scope and audience with what the provider documents",
		})
	case "invalid_request":
		all = append(all, Advice{
			Cause:  "the server could not read the sign-in: a user name it does not know the form of, or a token that is cut",
			Remedy: "check the login identity; with a token from elsewhere, check that it is whole",
		})
	}
	if told.OpenIDConfiguration != "" {
		all = append(all, Advice{
			Cause:  "the server names its issuer: " + told.OpenIDConfiguration,
			Remedy: "compare it with the issuer that the account signed in at",
		})
	}
	return all
}

func named(before, name string) string {
	if name == "" {
		return ""
	}
	return before + name
}

// known are the errors from below the sign-in.
func known(err error) (Advice, bool) {
	if a, ok := certificate(err); ok {
		return a, true
	}
	if a, ok := network(err); ok {
		return a, true
	}
	var mechanism *upstream.MechanismError
	switch {
	case errors.As(err, &mechanism):
		return Advice{
			Cause:  "the server takes no tokens here (it offers: " + strings.Join(mechanism.Offered, ", ") + ")",
			Remedy: "check host and port; if they are right, the server or this kind of account has no OAuth for mail",
		}, true
	case errors.Is(err, upstream.ErrInjected):
		return Advice{"somebody between here and the server puts words into the connection", "use another network, or the port with TLS from the start (993, 995, 465)"}, true
	case errors.Is(err, upstream.ErrNoSTARTTLS):
		return Advice{"the server, or something in between, does not let the connection be encrypted", "use the port with TLS from the start (993, 995, 465); a mail filter on this machine may be in the way"}, true
	case errors.Is(err, upstream.ErrProtocol), errors.Is(err, upstream.ErrTooLong):
		return Advice{"what answers there does not speak this protocol", "check host and port"}, true
	case errors.Is(err, upstream.ErrPlain):
		return Advice{"plain text would show the token to the network", "use tls or starttls"}, true
	case errors.Is(err, upstream.ErrClosed):
		return Advice{"the server hung up", "try again; a server that often does so may limit connections or block this address"}, true
	}
	return Advice{}, false
}

func certificate(err error) (Advice, bool) {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return Advice{"the server's certificate comes from an authority that this machine does not trust", "install the authority's certificate; a virus scanner or company proxy that opens TLS shows itself like this"}, true
	case errors.As(err, &host):
		return Advice{"the server's certificate is for another name", "use the host name that the provider documents"}, true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Advice{"the server's certificate is out of date, or this machine's clock is wrong", "check the clock; else tell whoever runs the server"}, true
	case errors.As(err, &record):
		return Advice{"the server does not begin with TLS on this port", "use starttls, or the other port"}, true
	}
	return Advice{}, false
}

func network(err error) (Advice, bool) {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return Advice{"the host name cannot be resolved", "check the name and the network"}, true
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return Advice{"the server did not answer in time", "check host, port and firewall; many networks block port 25 and some 465 and 587"}, true
	case errors.As(err, &op) && op.Op == "dial":
		return Advice{"nothing can be reached there", "check host, port and firewall"}, true
	}
	return Advice{}, false
}

// passing reports whether an error may go away by itself.
func passing(err error) bool {
	if refusal, ok := errors.AsType[*upstream.AuthError](err); ok {
		return refusal.Temporary
	}
	if reply, ok := errors.AsType[*upstream.ReplyError](err); ok {
		return reply.Temporary
	}
	if _, ok := certificate(err); ok {
		return false
	}
	_, ok := network(err)
	return ok || errors.Is(err, upstream.ErrClosed)
}

// A clientLimit is the longest token that a mail program takes, as measured with the
// versions of Debian 12.
type clientLimit struct {
	client    string
	octets    int
	protocols []upstream.Protocol
}

func clientLimits() []clientLimit {
	return []clientLimit{
		{"s-nail through netrc", 253, []upstream.Protocol{upstream.IMAP, upstream.POP3, upstream.SMTP}},
		{"neomutt 2022", 509, []upstream.Protocol{upstream.IMAP, upstream.SMTP}},
		{"Dovecot submission with programs that send the token at once", 700, []upstream.Protocol{upstream.SMTP}},
		{"Postfix 3.7 with programs that send the token at once", 1400, []upstream.Protocol{upstream.SMTP}},
		{"msmtp", 2990, []upstream.Protocol{upstream.SMTP}},
		{"mpop", 3000, []upstream.Protocol{upstream.POP3}},
		{"Dovecot's login, from any program", 6100, []upstream.Protocol{upstream.IMAP, upstream.POP3, upstream.SMTP}},
	}
}

func (l clientLimit) speaks(protocol upstream.Protocol) bool {
	for _, p := range l.protocols {
		if p == protocol {
			return true
		}
	}
	return false
}
