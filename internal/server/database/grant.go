package database

import (
	"context"
	"fmt"
	"strings"
)

// Roles are the PostgreSQL roles of the mail servers, made by the administrator. An empty
// name is passed over.
type Roles struct {
	Dovecot string // reads hashes
	Postfix string
}

// GrantViews gives the roles the right to read their views and nothing else. It may be
// called again. Roles are made elsewhere, because the role of letterlockd should not have
// the right to make any:
//
//	CREATE ROLE dovecot LOGIN PASSWORD '…';
func (db *DB) GrantViews(ctx context.Context, roles Roles) error {
	if db.engine.name != postgres {
		return fmt.Errorf("grant views: SQLite has no roles; it has a view file")
	}
	var texts []string
	grant := func(role string, views ...string) {
		if role != "" {
			texts = append(texts, `GRANT SELECT ON `+strings.Join(views, ", ")+` TO `+quoted(role))
		}
	}
	// A barrier keeps a function of the role's own from seeing rows that the view hides.
	for _, view := range []string{"dovecot_passdb", "dovecot_userdb", "postfix_recipient", "postfix_alias", "postfix_sender_login"} {
		texts = append(texts, `ALTER VIEW `+view+` SET (security_barrier = true)`)
	}
	grant(roles.Dovecot, "dovecot_passdb", "dovecot_userdb")
	grant(roles.Postfix, "postfix_recipient", "postfix_alias", "postfix_sender_login")
	return db.write(ctx, "grant views", func(tx *tx) error {
		for _, text := range texts {
			if _, err := tx.exec(text); err != nil {
				return err
			}
		}
		return nil
	})
}

// quoted is an SQL identifier.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
