//go:build lab

package lab_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// within ends a test's waiting; the machine may be busy.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func token(t *testing.T, op *lab.OP, who lab.Person, scopes ...string) string {
	t.Helper()
	tok, err := op.Token(within(t), who, scopes...)
	if err != nil {
		t.Fatal(err)
	}
	return tok.AccessToken
}

func itoa(n int) string { return strconv.Itoa(n) }
