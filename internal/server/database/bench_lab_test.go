//go:build lab

package database_test

import (
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

func BenchmarkPostgres(b *testing.B) {
	p := lab.RunPostgres(b, lab.PostgresOptions{})
	benchmarks(b, open(b, p.URL("postgres", "postgres"), patient()))
}
