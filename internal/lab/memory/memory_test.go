package memory_test

import (
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab/memory"
	"github.com/letterlock-mail/letterlock/internal/server/authserver/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Store { return memory.New() })
}
