package database

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// PutAddress keeps an address, or replaces what was there under it. Owners must be there.
func (db *DB) PutAddress(ctx context.Context, a identity.Address) error {
	if err := checkOwn(a.Address); err != nil {
		return err
	}
	for _, target := range a.Targets {
		if err := checkAddress(target); err != nil {
			return err
		}
	}
	return db.write(ctx, "put address", func(tx *tx) error {
		taken, err := tx.there(`SELECT 1 FROM credential WHERE login = $1 AND revoked = 0`, a.Address)
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("%s is the login name of an app password: %w", a.Address, identity.ErrExists)
		}
		for _, owner := range a.Owners {
			if err := tx.livingPerson(owner.Person, false); err != nil {
				return fmt.Errorf("owner %s: %w", owner.Person, err)
			}
		}
		tx.ended = true
		if err := tx.touchAddress(a.Address); err != nil {
			return err
		}
		if err := tx.dropAddress(a.Address); err != nil {
			return err
		}
		return tx.putAddress(a)
	})
}

// putAddress writes an address that has no row.
func (t *tx) putAddress(a identity.Address) error {
	targets, err := joined(a.Targets, byLine)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO address (address, targets) VALUES ($1, $2)`, a.Address, targets); err != nil {
		return err
	}
	for i, target := range a.Targets {
		if slices.Contains(a.Targets[:i], target) {
			return fmt.Errorf("target %s twice: %w", target, identity.ErrInvalid)
		}
		if _, err := t.exec(`INSERT INTO address_target (address, target) VALUES ($1, $2)`, a.Address, target); err != nil {
			return err
		}
	}
	for i, owner := range a.Owners {
		twice := slices.ContainsFunc(a.Owners[:i], func(o identity.Owner) bool { return o.Person == owner.Person })
		for _, role := range owner.Roles {
			if twice || role != identity.RoleLogin && role != identity.RoleSend {
				return fmt.Errorf("owner %s, role %q: %w", owner.Person, role, identity.ErrInvalid)
			}
		}
		if _, err := t.exec(`INSERT INTO address_owner (address, person, may_login, may_send) VALUES ($1, $2, $3, $4)`,
			a.Address, string(owner.Person), owner.Has(identity.RoleLogin), owner.Has(identity.RoleSend)); err != nil {
			return err
		}
	}
	return nil
}

// dropAddress removes an address if it has a row.
func (t *tx) dropAddress(address string) error {
	for _, table := range []string{"address", "address_target", "address_owner"} {
		if _, err := t.exec(`DELETE FROM `+table+` WHERE address = $1`, address); err != nil {
			return err
		}
	}
	return nil
}

// An address, its owners, and the person whose canonical address it is, who owns it
// without a row.
const addressRows = `SELECT 'address', a.targets, false, false FROM address a WHERE a.address = $1
	UNION ALL SELECT 'owner', o.person, o.may_login, o.may_send FROM address_owner o WHERE o.address = $1
	UNION ALL SELECT 'person', p.id, true, true FROM person p WHERE p.address = $1`

// Address finds an address as it is written; it looks for no catch-all. The canonical
// address of a person is found also when nothing was put there: a mailbox of theirs.
func (db *DB) Address(ctx context.Context, address string) (identity.Address, error) {
	var found addressRow
	err := db.list(ctx, "find address", addressRows, []any{address}, func() { found = addressRow{} }, found.scan)
	if err == nil && !found.there {
		err = fmt.Errorf("find address: %w", identity.ErrNotFound)
	}
	return found.address(address), err
}

// addressRow gathers the rows of one address.
type addressRow struct {
	there  bool
	a      identity.Address
	person string
}

func (r *addressRow) scan(scan func(...any) error) error {
	var kind, text string
	var login, send bool
	if err := scan(&kind, &text, &login, &send); err != nil {
		return err
	}
	r.there = r.there || kind != "owner"
	switch kind {
	case "address":
		r.a.Targets = split[string](text, byLine)
	case "person":
		r.person = text
	case "owner":
		r.a.Owners = append(r.a.Owners, owner(text, login, send))
	}
	return nil
}

func owner(person string, login, send bool) identity.Owner {
	o := identity.Owner{Person: identity.PersonID(person)}
	if login {
		o.Roles = append(o.Roles, identity.RoleLogin)
	}
	if send {
		o.Roles = append(o.Roles, identity.RoleSend)
	}
	return o
}

func (r *addressRow) address(name string) identity.Address {
	if !r.there {
		return identity.Address{}
	}
	r.a.Address = name
	if r.person != "" {
		r.a.Owners = slices.DeleteFunc(r.a.Owners, func(o identity.Owner) bool { return string(o.Person) == r.person })
		r.a.Owners = append(r.a.Owners, owner(r.person, true, true))
	}
	slices.SortFunc(r.a.Owners, func(a, b identity.Owner) int {
		return cmpText(string(a.Person), string(b.Person))
	})
	return r.a
}

func cmpText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Addresses lists all addresses in order, those after one; "" starts.
func (db *DB) Addresses(ctx context.Context, after string, limit int) ([]identity.Address, error) {
	return db.addresses(ctx, `SELECT address FROM (
		SELECT address FROM address WHERE address > $1 UNION SELECT address FROM person WHERE address > $1) every_address
		ORDER BY address LIMIT $2`, after, pageOf(limit))
}

// AddressesOf lists the addresses where a person has a role, their own included.
func (db *DB) AddressesOf(ctx context.Context, person identity.PersonID) ([]identity.Address, error) {
	return db.addresses(ctx, `SELECT address FROM (
		SELECT address FROM address_owner WHERE person = $1 UNION SELECT address FROM person WHERE id = $1) own_address
		ORDER BY address`, string(person))
}

func (db *DB) addresses(ctx context.Context, text string, args ...any) ([]identity.Address, error) {
	var found []identity.Address
	err := db.snapshot(ctx, "list addresses", func(tx *tx) error {
		found = nil
		var names []string
		err := tx.all(text, args, gather(&names))
		for _, name := range names {
			var row addressRow
			err = errors.Join(err, tx.all(addressRows, []any{name}, row.scan))
			found = append(found, row.address(name))
		}
		return err
	})
	return found, err
}

// DeleteAddress removes what was put at an address. The canonical address of a person
// stays theirs.
func (db *DB) DeleteAddress(ctx context.Context, address string) error {
	return db.write(ctx, "delete address", func(tx *tx) error {
		there, err := tx.there(`SELECT 1 FROM address WHERE address = $1`, address)
		if err != nil {
			return err
		}
		if !there {
			return identity.ErrNotFound
		}
		tx.ended = true
		if err := tx.touchAddress(address); err != nil {
			return err
		}
		return tx.dropAddress(address)
	})
}
