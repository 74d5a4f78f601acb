package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// importLimit is the largest file of persons that is read.
const importLimit = 32 << 20

// A newcomer is one row of a file of persons.
type newcomer struct {
	Address string `json:"address"`
	Name    string `json:"name"`
	Admin   bool   `json:"admin"`
}

func (p *program) personImportCommand() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use: "import FILE", Short: "make persons from a CSV or JSON file",
		Long: `Make all persons of a file, so that mail is taken for them before they first sign in.
CSV needs a first line with the columns: address, and if wanted name and admin. JSON
is an array of objects with these members. A file with one fault changes nothing;
persons who are there already stay as they are. - reads standard input.`,
		Example: `  printf 'address,name\nann@example.org,Ann Example\n' | letterlockd person import -
  letterlockd person import --dry-run members.json`,
		Args: command.Exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return p.importPersons(c.Context(), args[0], dry) },
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only tell what would be done")
	return c
}

func (p *program) importPersons(ctx context.Context, path string, dry bool) error {
	data, err := p.readImport(path)
	if err != nil {
		return err
	}
	all, err := parseNewcomers(data)
	if err != nil {
		return cli.Wrap(cli.DataError, err, "nothing was changed; letterlockd person import --help shows the form")
	}
	var faults []string
	for i := range all {
		if all[i].Address, err = p.ownAddress(all[i].Address); err != nil {
			faults = append(faults, fmt.Sprintf("person %d: %v", i+1, err))
		}
	}
	if len(faults) > 0 {
		return cli.Faultf(cli.DataError, "nothing was changed", "%s", strings.Join(faults, "\n"))
	}
	db, err := p.store(ctx)
	if err != nil {
		return err
	}
	return p.addNewcomers(ctx, db, all, dry)
}

func (p *program) addNewcomers(ctx context.Context, db *database.DB, all []newcomer, dry bool) error {
	made, there := 0, 0
	for _, n := range all {
		_, err := db.PersonByAddress(ctx, n.Address)
		switch {
		case err == nil:
			there++
			continue
		case !errors.Is(err, identity.ErrNotFound):
			return err
		}
		made++
		if dry {
			continue
		}
		if _, err := p.addPerson(ctx, db, n.Address, n.Name, n.Admin); err != nil {
			return err
		}
	}
	verb := "were made"
	if dry {
		verb = "would be made"
	}
	p.term.Sayf("%d persons %s, %d are there already", made, verb, there)
	return nil
}

func (p *program) readImport(path string) ([]byte, error) {
	in := p.term.In
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, cli.Wrap(cli.DataError, fmt.Errorf("open file of persons: %w", err), "")
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, importLimit+1))
	if err != nil {
		return nil, cli.Wrap(cli.DataError, fmt.Errorf("read file of persons: %w", err), "")
	}
	if len(data) > importLimit {
		return nil, cli.Faultf(cli.DataError, "split it", "the file is larger than %d MiB", importLimit>>20)
	}
	return data, nil
}

// parseNewcomers reads JSON when the file begins so, else CSV.
func parseNewcomers(data []byte) ([]newcomer, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // spreadsheets put it there
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '[' {
		decoder := json.NewDecoder(bytes.NewReader(trimmed))
		decoder.DisallowUnknownFields()
		var all []newcomer
		if err := decoder.Decode(&all); err != nil {
			return nil, fmt.Errorf("read JSON: %w", err)
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("read JSON: more follows after the array")
		}
		return all, nil
	}
	return parseCSV(data)
}

func parseCSV(data []byte) ([]newcomer, error) {
	rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read CSV: %w", err)
	}
	if len(rows) == 0 {
		return nil, errors.New("the file is empty")
	}
	for i, column := range rows[0] {
		rows[0][i] = strings.ToLower(strings.TrimSpace(column))
		if !slices.Contains([]string{"address", "name", "admin"}, rows[0][i]) {
			return nil, fmt.Errorf("line 1: there is no column %q: columns are address, name and admin", cli.Line(column))
		}
	}
	if !slices.Contains(rows[0], "address") {
		return nil, errors.New("line 1: the column address is missing")
	}
	var all []newcomer
	for line, row := range rows[1:] {
		var n newcomer
		for i, cell := range row {
			cell = strings.TrimSpace(cell)
			switch rows[0][i] {
			case "address":
				n.Address = cell
			case "name":
				n.Name = cell
			case "admin":
				if n.Admin = cell == "true"; !n.Admin && cell != "false" && cell != "" {
					return nil, fmt.Errorf("line %d: admin is true or false", line+2)
				}
			}
		}
		all = append(all, n)
	}
	return all, nil
}
