package identity

import "time"

// A MailSession is a browser at a web mail gateway. The gateway has a host name of its own,
// and so a cookie of its own; the right stands on a session of the pages, and goes with it.
type MailSession struct {
	ID      Digest // of the cookie
	Gateway string // its name in the configuration
	Person  PersonID
	// Began is Created of the session it stands on. A session gets a new id with each
	// change of its rights and keeps this moment, so the person and it name the sign-in.
	Began time.Time
	Grant GrantID // what the portal shows, and revokes
	// Created, Seen and Expires are those of the browser at the gateway.
	Created time.Time
	Seen    time.Time
	Expires time.Time
}

// GatewayClient is the client id that stands for a web mail gateway in grants. No other
// client id has a colon in it.
func GatewayClient(name string) ClientID { return ClientID("gateway:" + name) }
