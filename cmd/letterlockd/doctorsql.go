package main

import "context"

// sample finds a person to ask the tables of SQL about, among the first; "": there is none.
func (p *program) sample(ctx context.Context) (string, error) {
	db, err := p.store(ctx)
	if err != nil {
		return "", err
	}
	people, err := db.People(ctx, "", pageSize)
	if err != nil {
		return "", err
	}
	for _, person := range people {
		if person.Disabled.IsZero() {
			return person.Address, nil
		}
	}
	return "", nil
}
