//go:build lab

package database

import (
	"context"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

func TestViewFileFollowsPostgres(t *testing.T) {
	p := lab.RunPostgres(t, lab.PostgresOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := p.NewDatabase(ctx, "views"); err != nil {
		t.Fatal(err)
	}
	followViews(t, p.URL("postgres", "views"))
}
