package database_test

import (
	"testing"

	authtest "github.com/letterlock-mail/letterlock/internal/server/authserver/storetest"
	"github.com/letterlock-mail/letterlock/internal/server/database/storetest"
)

func TestSQLite(t *testing.T) {
	t.Run("nouns", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Store { return openLite(t) })
	})
	t.Run("authserver", func(t *testing.T) {
		authtest.Run(t, func(t *testing.T) authtest.Store { return openLite(t) })
	})
}
