package identity

import "time"

// Who may say that a person is shut out. What an identity provider says is [HoldMember]
// and its issuer.
const (
	HoldHand = "hand" // an administrator
	HoldSCIM = "scim" // a directory
)

// HoldMember is the source of a hold that an identity provider's answer has made.
func HoldMember(issuer string) string { return "member " + issuer }

// A Hold is one word that shuts a person out. A person is disabled while any is there, so
// that a directory that lets somebody in again does not undo what an administrator said.
type Hold struct {
	Person PersonID
	Source string
	Since  time.Time
	Reason string
}

// A Held is what an administrator has said against a person whom a directory has removed
// since. It shuts out whoever is made with that address, or by a directory with that id.
type Held struct {
	Address  string
	External string // the directory's own id; "": none
	Since    time.Time
	Reason   string
}

// A User is a person as a directory sees them.
type User struct {
	Person     Person
	External   string    // the directory's own id; "": none
	Attributes string    // what else it said, as JSON; kept and given back, never acted upon
	Changed    time.Time // by a directory; zero: never
	// Wish is what a change says about being active. The person's Disabled says what is.
	Wish Wish
}

// A Wish is what a directory wants of a person.
type Wish int

// The wishes; a change that says nothing leaves all as it is.
const (
	WishNothing Wish = iota
	WishActive
	WishInactive
)

// A Leaver is an account that its provider says is no member any more.
type Leaver struct {
	Issuer, Subject string
	Person          PersonID
	State           LeaverState
	Since           time.Time
	Why             string
}

// A LeaverState is what became of a leaver.
type LeaverState string

// The states: too many at once wait for an administrator; who was let go is out.
const (
	LeaverWaiting  LeaverState = "waiting"
	LeaverApproved LeaverState = "approved"
	LeaverOut      LeaverState = "out"
)

// A MembershipLook is how the last look at an issuer's accounts went.
type MembershipLook struct {
	Issuer   string
	Asked    time.Time
	Answered time.Time // the last time that there was an answer to go by
	Accounts int       // bound accounts that were asked about
	Gone     int       // of them no members
	Trouble  string    // why there was no answer; "": there was one
}

// A SealedGrant is a refresh token of an identity provider, which only the key that is not
// in the database opens.
type SealedGrant struct {
	Issuer, Subject string
	Sealed          []byte
	Kept            time.Time
}
