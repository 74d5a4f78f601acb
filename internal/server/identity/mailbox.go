package identity

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Binding says that an account at an identity provider is a person here. The pair of
// issuer and subject is the key; a name or an address at the provider is none, because
// those can be given to somebody else.
type Binding struct {
	Issuer  string // issuer URL; for GitHub "https://HOST", which issues no tokens of its own
	Subject string // "sub", or GitHub's numeric id
	Person  PersonID
	Shown   string // what the provider calls the account, for pages only
	Bound   time.Time
	// Checked is when the provider last said that the account still qualifies.
	Checked time.Time
}

// A Role is what a person may do with an address.
type Role string

// The roles of a person at an address: open its mailbox, send in its name.
const (
	RoleLogin Role = "login"
	RoleSend  Role = "send"
)

// An Address is one mail address that is served here. Persons and addresses are n to m:
// one person has several, and a role mailbox belongs to several persons.
type Address struct {
	// Address is canonical: lower case, domain in A-labels. "@example.org" is a
	// catch-all.
	Address string
	// Targets is where its mail goes when it is an alias; empty: it is a mailbox.
	Targets []string
	// Owners are the persons with a role at it.
	Owners []Owner
}

// An Owner is one person's role at an address.
type Owner struct {
	Person PersonID
	Roles  []Role
}

// OwnMailbox is the mailbox at a person's own address, theirs alone.
func OwnMailbox(p Person) Address {
	return Address{Address: p.Address, Owners: []Owner{{Person: p.ID, Roles: []Role{RoleLogin, RoleSend}}}}
}

// Has reports whether the owner has the role.
func (o Owner) Has(role Role) bool { return slices.Contains(o.Roles, role) }

// A Protocol is a mail protocol as rights name it.
type Protocol string

// The protocols that a right can be limited to.
const (
	IMAP  Protocol = "imap"
	POP3  Protocol = "pop3"
	SMTP  Protocol = "smtp"
	Sieve Protocol = "sieve"
)

// CredentialID names an app password in the database and in audit events.
type CredentialID string

// A Credential is an app password: what one device may do with a password that is worth
// nothing elsewhere. The password is SELECTOR-SECRET; only a slow hash of it is kept.
type Credential struct {
	ID     CredentialID
	Person PersonID
	// Selector is the public first part of the password: it finds the one row whose
	// hash is to be computed, so that a guess costs one hash at most, and an unknown
	// selector none.
	Selector string
	// Hash is the Argon2id hash of the whole password as a PHC string. Dovecot reads it
	// behind "{ARGON2ID}".
	Hash string
	// Name is the label as part of a login name (ann+scanner@example.org): letters,
	// digits, dot, dash and underscore, lower case, unique for the person.
	Name  string
	Label string // as the person wrote it

	Protocols  []Protocol     // empty: all
	Networks   []netip.Prefix // empty: from everywhere
	Senders    []string       // addresses it may send as; empty: all that the person may
	Recipients []string       // addresses and "@domain"s it may send to; empty: all
	PerHour    int            // messages an hour; 0: no limit of its own

	Created time.Time
	Expires time.Time // zero: never
	Revoked time.Time // zero: in force
	Reason  string    // why it was revoked

	LastUse      time.Time
	LastFrom     netip.Addr
	LastProtocol Protocol
}

// Limited reports whether the credential has limits on sending of its own. Postfix is
// told the name of such a credential instead of the person's, so that the limits can be
// found again when the message comes.
func (c Credential) Limited() bool {
	return len(c.Senders) > 0 || len(c.Recipients) > 0 || c.PerHour > 0
}

// LoginName is the name that stands for one credential of the owner of address:
// local+name@domain.
func LoginName(address, name string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 || name == "" {
		return address
	}
	return address[:at] + "+" + name + address[at:]
}

// NameFrom makes the name of a credential, as it stands in its login name, out of the label
// that a person gave it: lower-case letters, digits and single dashes, 32 bytes at most.
func NameFrom(label string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(label) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case r == '\'' || r == '’': // Ann's phone: anns-phone
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == 32 {
			break
		}
	}
	if name := strings.Trim(b.String(), "-"); name != "" {
		return name
	}
	return "device"
}

// A Use is one successful sign-in with a credential, recorded in batches.
type Use struct {
	Credential CredentialID
	At         time.Time
	From       netip.Addr
	Protocol   Protocol
}

// SessionID names a browser session; only its digest is kept.
type SessionID = Digest

// A Session is a browser that is signed in.
type Session struct {
	ID      SessionID
	Person  PersonID
	Admin   bool      // proved a second factor that admin pages want
	Factor  Factor    // the second factor that was proved, if one was
	Proved  time.Time // when the person last proved who they are
	How     string    // "github", "oidc:ISSUER", "passkey", …
	Agent   string    // the browser, in words, for the page
	From    netip.Addr
	Created time.Time
	Seen    time.Time
	Expires time.Time
	// Upstream is what the identity provider calls the session ("sid"), for
	// back-channel logout.
	Upstream string
}

// An Event is one line of the audit trail, which is only ever appended to. It holds no
// secret: Detail is words and names.
type Event struct {
	ID     string // of the store's making; with At it says where a page of events ends
	At     time.Time
	Kind   string // "signin.ok", "signin.refused", "credential.made", "person.disabled", …
	Person PersonID
	Actor  string // who did it: a person, "system", "shell:UID"
	From   netip.Addr
	Detail string
}

// An EventFilter says which events a page shows, newest first.
type EventFilter struct {
	Person PersonID // empty: everybody's
	Kind   string   // beginning of the kind, "signin."; empty: all
	// Before and BeforeID are At and ID of the last event of the page before; zero: the
	// newest. Several events can share one instant, so the time alone would lose some.
	Before   time.Time
	BeforeID string
	Limit    int // at most; 0: 100
}

// A Ban is an entry of the deny or allow list that an administrator made.
type Ban struct {
	Network netip.Prefix
	Allow   bool // never throttled instead of always refused
	Until   time.Time
	Reason  string
	Made    time.Time
}
