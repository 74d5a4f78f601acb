package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// receive decides what becomes of an account that has been proved.
func (d *Desk) receive(w http.ResponseWriter, r *http.Request, e Entrance, account Account, back string) error {
	person, err := d.bound(r.Context(), account)
	if err == nil {
		return d.admit(w, r, person, account, back)
	}
	if !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	if code := d.o.Sessions.Value(r, invitationCookie); code != "" {
		return d.offer(w, r, e, account, code)
	}
	if person, err = d.firstTime(r, e, account); err != nil {
		return err
	}
	return d.admit(w, r, person, account, back)
}

// bound finds whose account it is, by its key alone: what the provider says about names
// and addresses changes nothing any more.
func (d *Desk) bound(ctx context.Context, account Account) (identity.Person, error) {
	binding, err := d.o.Store.Binding(ctx, account.Issuer, account.Subject)
	if err != nil {
		return identity.Person{}, fmt.Errorf("find account: %w", err)
	}
	person, err := d.o.Store.Person(ctx, binding.Person)
	if errors.Is(err, identity.ErrNotFound) {
		return person, errors.New("an account is bound to nobody")
	}
	if err != nil {
		return person, fmt.Errorf("find person of account: %w", err)
	}
	if !person.Disabled.IsZero() {
		if person, err = d.returned(ctx, binding, person); err != nil || !person.Disabled.IsZero() {
			return person, err // admit says no; the provider's word is not noted
		}
	}
	if err := d.o.Store.Confirm(ctx, account.Issuer, account.Subject, d.o.Now()); err != nil {
		return person, fmt.Errorf("note sign-in of account: %w", err)
	}
	return person, nil
}

// firstTime binds an account that is nobody's by a verified address, where the policy says so.
func (d *Desk) firstTime(r *http.Request, e Entrance, account Account) (identity.Person, error) {
	unknown := &Refused{
		Reason: "unknown", Detail: account.Issuer + " " + account.Subject + " " + account.Shown,
		What: "Your account is known, but no mailbox here belongs to it.",
		Hint: "Ask whoever looks after the mail here for an invitation link, and tell them: " + account.Shown + " (number " + account.Subject + ").",
	}
	if !e.BindVerified {
		return identity.Person{}, unknown
	}
	if account.NoEmail != "" {
		unknown = unknown.because(account.NoEmail + "; or use letterlockd person invite")
		unknown.Hint += " If " + label(e) + " asked you what this site may know of you, it must be allowed to know your mail address."
		return identity.Person{}, unknown
	}
	own := d.ownAddresses(account.Emails)
	var found []identity.Person
	for _, address := range own {
		person, err := d.o.Store.PersonByAddress(r.Context(), address)
		if errors.Is(err, identity.ErrNotFound) {
			continue
		}
		if err != nil {
			return person, fmt.Errorf("find person: %w", err)
		}
		found = append(found, person)
	}
	switch {
	case len(found) > 1:
		return identity.Person{}, unknown.because("addresses of several persons")
	case len(found) == 1 && !found[0].Disabled.IsZero():
		return identity.Person{}, shutOut(found[0])
	case len(found) == 1:
		return found[0], d.o.Store.Together(r.Context(), func(ctx context.Context) error {
			if err := d.frozen(ctx, found[0], account, unknown); err != nil {
				return err
			}
			if e.Provision {
				if err := d.mailbox(ctx, found[0]); err != nil {
					return err
				}
			}
			return d.bind(ctx, r, found[0], account, "verified "+found[0].Address)
		})
	case e.Provision:
		return d.provision(r, account, own, unknown)
	}
	return identity.Person{}, unknown
}

// frozen: an address decides once per issuer. Whoever could read a mailbox for an hour
// could verify its address for an account of their own, and come back for good.
func (d *Desk) frozen(ctx context.Context, person identity.Person, account Account, unknown *Refused) error {
	bindings, err := d.o.Store.Bindings(ctx, person.ID)
	if err != nil {
		return fmt.Errorf("find accounts of person: %w", err)
	}
	for _, b := range bindings {
		if b.Issuer == account.Issuer {
			return unknown.because(person.Address + " has the account " + b.Subject + " there already")
		}
	}
	return nil
}

// ownAddresses are those of the verified addresses that may decide anything: plain ASCII
// in a domain of ours, without an extension. Letters that only look alike, or become alike
// in lower case (the Kelvin sign), prove nothing about the mailbox they resemble.
func (d *Desk) ownAddresses(emails []string) []string {
	var own []string
	for _, email := range emails {
		if strings.ContainsFunc(email, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '+' || r == '"' }) {
			continue
		}
		address, err := identity.CanonicalAddress(email)
		if err != nil || address != strings.ToLower(email) {
			continue
		}
		_, domain, _ := strings.Cut(address, "@")
		if slices.Contains(d.o.Domains, domain) && !slices.Contains(own, address) {
			own = append(own, address)
		}
	}
	return own
}

// provision makes the person, their mailbox and the binding, with their lines of the audit
// trail, all or nothing. Of several own addresses none is guessed.
func (d *Desk) provision(r *http.Request, account Account, own []string, unknown *Refused) (identity.Person, error) {
	if len(own) != 1 || roleName(own[0]) {
		return identity.Person{}, unknown.because(fmt.Sprintf("%d addresses to make a mailbox of, or one that is an office and no person", len(own)))
	}
	id, err := identity.NewID(d.o.Random, d.o.Now())
	if err != nil {
		return identity.Person{}, err
	}
	person := identity.Person{ID: identity.PersonID(id), Address: own[0], Name: account.Name, Created: d.o.Now()}
	return person, d.o.Store.Together(r.Context(), func(ctx context.Context) error {
		if err := d.o.Store.AddPerson(ctx, person); errors.Is(err, identity.ErrExists) {
			return unknown.because(own[0] + " is an alias or another's")
		} else if err != nil {
			return fmt.Errorf("make person: %w", err)
		}
		if err := d.event(ctx, r, "person.added", person.ID, person.Address+" at first sign-in"); err != nil {
			return err
		}
		if err := d.mailbox(ctx, person); err != nil {
			return err
		}
		return d.bind(ctx, r, person, account, "made "+person.Address)
	})
}

// mailbox makes the person's own mailbox unless it is there.
func (d *Desk) mailbox(ctx context.Context, person identity.Person) error {
	_, err := d.o.Store.Address(ctx, person.Address)
	if errors.Is(err, identity.ErrNotFound) {
		err = d.o.Store.PutAddress(ctx, identity.OwnMailbox(person))
	}
	if err != nil {
		return fmt.Errorf("make mailbox: %w", err)
	}
	return nil
}

// roleName knows the offices of RFC 2142 and the names by which certificates are given
// out: whoever can read their mail may verify them somewhere, and is not their owner.
func roleName(address string) bool {
	local, _, _ := strings.Cut(address, "@")
	switch local {
	case "postmaster", "hostmaster", "webmaster", "abuse", "noc", "security", "root", "admin", "administrator", "ssladmin",
		"mailer-daemon", "noreply", "no-reply", "info", "marketing", "sales", "support", "usenet", "news", "www", "uucp", "ftp":
		return true
	}
	return false
}

// bind ties the account to the person, for good. It is called in a transaction, which its
// line of the audit trail belongs to.
func (d *Desk) bind(ctx context.Context, r *http.Request, person identity.Person, account Account, why string) error {
	now := d.o.Now()
	err := d.o.Store.Bind(ctx, identity.Binding{
		Issuer: account.Issuer, Subject: account.Subject, Person: person.ID, Shown: account.Shown, Bound: now, Checked: now,
	})
	if errors.Is(err, identity.ErrExists) {
		// Two first sign-ins at once. Whose account it is now, the next one finds out.
		return mistaken("the account was bound in this moment")
	}
	if err != nil {
		return fmt.Errorf("bind account: %w", err)
	}
	return d.event(ctx, r, "signin.bound", person.ID, account.Issuer+" "+account.Subject+" "+account.Shown+": "+why)
}
