package storetest

import (
	"context"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// MailSessions are browsers at web mail gateways, and the tokens of web mail.
type MailSessions interface {
	OpenMailSession(ctx context.Context, m identity.MailSession, grant identity.Grant) (identity.MailSession, error)
	MailSession(ctx context.Context, id identity.Digest, now time.Time) (identity.MailSession, identity.Person, error)
	TouchMailSession(ctx context.Context, id identity.Digest, at time.Time) error
	IssueMail(ctx context.Context, session identity.Digest, access identity.AccessToken) error
	EndMailSession(ctx context.Context, id identity.Digest, at time.Time, signIn bool) error
	AccessToken(ctx context.Context, digest identity.Digest) (identity.AccessToken, identity.Grant, error)
	GrantsOf(ctx context.Context, person identity.PersonID) ([]identity.Grant, error)
	RevokeGrant(ctx context.Context, id identity.GrantID, at time.Time, reason string) error
}

func mailSession(name, owner string) identity.MailSession {
	return identity.MailSession{ID: digest(name), Gateway: "webmail", Person: identity.PersonID(owner), Began: At(1), Created: At(5), Seen: At(5), Expires: At(50)}
}

func mailGrant(id, owner string) identity.Grant {
	return identity.Grant{ID: identity.GrantID(id), Person: identity.PersonID(owner), Client: identity.GatewayClient("webmail"), Scopes: []string{"imap", "smtp"}, Created: At(5)}
}

func mailToken(name string, grant identity.GrantID) identity.AccessToken {
	return identity.AccessToken{Digest: digest(name), Grant: grant, Scopes: []string{"imap", "smtp"}, Issued: At(6), Expires: At(40)}
}

// mailSessions: they stand on a sign-in and a consent, and end with either.
func (c *checker) mailSessions() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	_, err := s.OpenMailSession(ctx, mailSession("m", "ann"), mailGrant("g1", "ann"))
	c.want("without a sign-in", err, identity.ErrNotFound)
	c.must(s.AddSession(ctx, session("s", "ann")))
	want := mailSession("m", "ann")
	want.Grant = "g1"
	c.same("opened", got(s.OpenMailSession(ctx, mailSession("m", "ann"), mailGrant("g1", "ann")))(c), want)
	found, owner, err := s.MailSession(ctx, digest("m"), At(7))
	c.must(err)
	c.same("MailSession", found, want)
	c.same("its person", owner, person("ann"))
	_, _, err = s.MailSession(ctx, digest("m"), At(50))
	c.want("when it has expired", err, identity.ErrNotFound)

	// A second browser of the same sign-in shares the consent; its tokens are its own.
	if second := got(s.OpenMailSession(ctx, mailSession("m2", "ann"), mailGrant("g2", "ann")))(c); second.Grant != "g1" {
		c.Errorf("the second browser has consent %s", second.Grant)
	}
	c.must(s.IssueMail(ctx, digest("m"), mailToken("t1", "g1")))
	c.must(s.IssueMail(ctx, digest("m2"), mailToken("t2", "g1")))
	c.want("a token of another consent", s.IssueMail(ctx, digest("m"), mailToken("t3", "g2")), identity.ErrNotFound)
	c.want("a token of nobody", s.IssueMail(ctx, digest("m9"), mailToken("t3", "g1")), identity.ErrNotFound)

	// A change of rights gives the session another id; the mail session stands.
	c.must(s.EndSession(ctx, digest("s")))
	_, _, err = s.MailSession(ctx, digest("m"), At(7))
	c.want("with the sign-in over", err, identity.ErrNotFound)
	c.want("a token with the sign-in over", s.IssueMail(ctx, digest("m"), mailToken("t4", "g1")), identity.ErrNotFound)
	c.must(s.AddSession(ctx, session("s-with-more-rights", "ann")))
	_, _, err = s.MailSession(ctx, digest("m"), At(7))
	c.must(err)

	c.must(s.TouchMailSession(ctx, digest("m"), At(9)))
	found, _, err = s.MailSession(ctx, digest("m"), At(9))
	c.must(err)
	sign, _, err := s.Session(ctx, digest("s-with-more-rights"), At(9))
	c.must(err)
	if !found.Seen.Equal(At(9)) || !sign.Seen.Equal(At(9)) {
		c.Errorf("seen at %v, the sign-in at %v", found.Seen, sign.Seen)
	}
	c.want("touch nothing", s.TouchMailSession(ctx, digest("m9"), At(9)), identity.ErrNotFound)
}

// mailSessionsEnd: a log-out ends the browser's tokens and sign-in, a revocation all.
func (c *checker) mailSessionsEnd() {
	ctx, s := c.Context(), c.s
	c.must(s.AddPerson(ctx, person("ann")))
	c.must(s.AddSession(ctx, session("s", "ann")))
	got(s.OpenMailSession(ctx, mailSession("m", "ann"), mailGrant("g1", "ann")))(c)
	got(s.OpenMailSession(ctx, mailSession("m2", "ann"), mailGrant("g1", "ann")))(c)
	c.must(s.IssueMail(ctx, digest("m"), mailToken("t1", "g1")))
	c.must(s.IssueMail(ctx, digest("m2"), mailToken("t2", "g1")))
	revoked := func(name string) bool {
		token, _, err := s.AccessToken(ctx, digest(name))
		c.must(err)
		return !token.Revoked.IsZero()
	}
	before := got(s.Generation(ctx))(c)
	c.must(s.EndMailSession(ctx, digest("m"), At(10), false))
	if !revoked("t1") || revoked("t2") {
		c.Error("the token of the browser that left, or that of another")
	}
	if got(s.Generation(ctx))(c) == before {
		c.Error("the generation tells of nothing")
	}
	_, _, err := s.MailSession(ctx, digest("m"), At(10))
	c.want("after the log-out", err, identity.ErrNotFound)
	_, _, err = s.MailSession(ctx, digest("m2"), At(10))
	c.must(err)
	c.must(s.EndMailSession(ctx, digest("m"), At(10), true)) // again; nothing is left to end
	got(s.Sessions(ctx, "ann"))(c)

	c.must(s.RevokeGrant(ctx, "g1", At(11), "lost"))
	_, _, err = s.MailSession(ctx, digest("m2"), At(11))
	c.want("after the revocation", err, identity.ErrNotFound)
	c.want("a token after it", s.IssueMail(ctx, digest("m2"), mailToken("t5", "g1")), identity.ErrNotFound)
	// The next one is a consent of its own.
	if again := got(s.OpenMailSession(ctx, mailSession("m3", "ann"), mailGrant("g3", "ann")))(c); again.Grant != "g3" {
		c.Errorf("consent %s after the revocation", again.Grant)
	}
	c.must(s.EndMailSession(ctx, digest("m3"), At(12), true))
	if n := len(got(s.Sessions(ctx, "ann"))(c)); n != 0 {
		c.Errorf("%d sign-ins after a log-out", n)
	}
	c.must(s.DisablePerson(ctx, "ann", At(13), "gone"))
	_, err = s.OpenMailSession(ctx, mailSession("m4", "ann"), mailGrant("g4", "ann"))
	c.want("a disabled person", err, identity.ErrRevoked)
	if n := len(got(s.GrantsOf(ctx, "ann"))(c)); n != 2 {
		c.Errorf("%d consents, want 2", n)
	}
}
