package main

import (
	"errors"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// hasFault says that err tells a person more than that output was lost.
func hasFault(err error) bool {
	var fault *cli.Fault
	return errors.As(err, &fault)
}
