package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/database"
)

func (p *program) migrateCommand() *cobra.Command {
	var roles database.Roles
	c := &cobra.Command{
		Use: "migrate", Short: "bring the database up to date",
		Long: `Bring the database up to date. serve does it too when it starts; this is for those who
want to see it happen. With PostgreSQL it can also let the mail servers' own roles, which
an administrator has made, read the views that are for them, and nothing else.`,
		Example: `  letterlockd migrate
  letterlockd migrate --dovecot-role dovecot --postfix-role postfix`,
		Args: command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			db, err := p.store(c.Context())
			if err != nil {
				return err
			}
			p.term.Sayf("the database is up to date")
			if roles == (database.Roles{}) {
				return nil
			}
			if err := db.GrantViews(c.Context(), roles); err != nil {
				return cli.Wrap(cli.DataError, err, "the roles must be there: CREATE ROLE dovecot LOGIN; SQLite has view_file in [database] instead")
			}
			p.term.Sayf("the roles may read their views")
			return nil
		},
	}
	c.Flags().StringVar(&roles.Dovecot, "dovecot-role", "", "PostgreSQL `role` that reads logins and their hashes")
	c.Flags().StringVar(&roles.Postfix, "postfix-role", "", "PostgreSQL `role` that reads recipients, aliases and senders")
	return c
}

func (p *program) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "backup", Short: "write everything to standard output",
		Long: `Write one consistent copy of the database to standard output, whichever database it
is, while the daemon runs. It holds hashes of passwords and tokens and none of them
itself, and none of the files that hold secrets: keep copies of those apart.`,
		Example: "  letterlockd backup > letterlockd-$(date +%F).backup",
		Args:    command.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if p.term.OutTTY {
				return cli.Faultf(cli.Usage, "letterlockd backup > FILE", "a backup does not belong on a terminal")
			}
			db, err := p.store(c.Context())
			if err != nil {
				return err
			}
			if err := db.Backup(c.Context(), p.term.Out); err != nil {
				return err
			}
			return nil
		},
	}
}

func (p *program) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE", Short: "fill an empty database from a backup",
		Long:    "Fill the configured database from a backup, which may be of the other kind of database. One that holds anything is left alone.",
		Example: "  letterlockd restore letterlockd-2026-11-22.backup",
		Args:    command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			var in io.Reader = p.term.In
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return cli.Wrap(cli.DataError, fmt.Errorf("open backup: %w", err), "")
				}
				defer func() { err = errors.Join(err, file.Close()) }()
				in = file
			}
			db, err := p.store(c.Context())
			if err != nil {
				return err
			}
			if err := db.Restore(c.Context(), in); err != nil {
				return cli.Wrap(cli.DataError, err, "nothing was changed")
			}
			p.term.Sayf("restored")
			return p.record(c.Context(), db, "database.restored", "", args[0])
		},
	}
}
