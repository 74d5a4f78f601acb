package portal

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// revokePassword ends one of the person's own app passwords. Those of others are not
// found.
func revokePassword(v *visit) error {
	if err := v.endPassword(v.person, identity.CredentialID(v.form.Get("id"))); err != nil {
		return err
	}
	return v.done("/", "revoked")
}

// endPassword revokes and writes it down, all or nothing, and then has it felt.
func (v *visit) endPassword(person identity.Person, id identity.CredentialID) error {
	all, err := v.o.Store.Credentials(v.r.Context(), person.ID)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(c identity.Credential) bool { return c.ID == id })
	if at < 0 {
		return identity.ErrNotFound
	}
	err = v.change("credential.revoked", person.ID, all[at].Name, func(ctx context.Context) error {
		return v.o.Store.RevokeCredential(ctx, id, v.now, "revoked in the portal by "+v.person.Address)
	})
	if err != nil {
		return err
	}
	v.revoked(person)
	return nil
}

// revokeGrant ends what a program was allowed, with all its tokens.
func revokeGrant(v *visit) error {
	grant, err := v.o.Store.Grant(v.r.Context(), identity.GrantID(v.form.Get("id")))
	if err != nil {
		return err
	}
	if grant.Person != v.person.ID {
		return identity.ErrNotFound
	}
	err = v.change("grant.revoked", v.person.ID, string(grant.Client), func(ctx context.Context) error {
		return v.o.Store.RevokeGrant(ctx, grant.ID, v.now, "revoked in the portal by "+v.person.Address)
	})
	if err != nil {
		return err
	}
	v.revoked(v.person)
	return v.done("/", "revoked")
}

// allowAgain lets a program of another issuer in once more. It gives a right, so it wants a
// fresh proof, and the person presses the button again after that.
func allowAgain(v *visit) error {
	ended, err := v.o.Store.Grant(v.r.Context(), identity.GrantID(v.form.Get("id")))
	if err != nil {
		return err
	}
	if _, _, outside := ended.Client.Outside(); ended.Person != v.person.ID || !outside {
		return identity.ErrNotFound
	}
	ok, err := v.proved()
	if err != nil {
		return err
	}
	if !ok {
		v.o.SignIn(v.w, v.r, "/", true)
		return nil
	}
	id, err := identity.NewID(v.o.Random, v.now)
	if err != nil {
		return err
	}
	again := identity.Grant{ID: identity.GrantID(id), Person: v.person.ID, Client: ended.Client, Scopes: ended.Scopes, Created: v.now}
	err = v.change("grant.given", v.person.ID, string(ended.Client), func(ctx context.Context) error { return v.o.Store.AllowAgain(ctx, again) })
	if err != nil {
		return err
	}
	return v.done("/", "allowed")
}

// endSession signs one of the person's browsers out.
func endSession(v *visit) error {
	sessions, err := v.o.Store.Sessions(v.r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if hex.EncodeToString(s.ID[:]) == v.form.Get("id") {
			if err := v.endBrowsers(s); err != nil {
				return err
			}
			return v.done("/", "ended")
		}
	}
	return identity.ErrNotFound
}

// endOthers leaves this browser signed in and no other.
func endOthers(v *visit) error {
	sessions, err := v.o.Store.Sessions(v.r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(sessions), func(s identity.Session) bool { return s.ID.Equal(v.session.ID) })
	if err := v.endBrowsers(others...); err != nil {
		return err
	}
	return v.done("/", "ended-others")
}

func (v *visit) endBrowsers(sessions ...identity.Session) error {
	return v.o.Store.Together(v.r.Context(), func(ctx context.Context) error {
		for _, s := range sessions {
			if err := v.o.Store.EndSession(ctx, s.ID); err != nil {
				return err
			}
			if err := v.record(ctx, "session.ended", v.person.ID, s.Agent); err != nil {
				return err
			}
		}
		return nil
	})
}
