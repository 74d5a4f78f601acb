package main

import (
	"errors"
	"io"

	"github.com/letterlock-mail/letterlock/internal/cli"
)

// An output is standard output, which remembers whether it took everything: a script
// that reads half a table and an exit code of 0 believes it has all.
type output struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (o *output) Write(data []byte) (int, error) {
	n, err := o.w.Write(data)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// hasFault says that err tells a person more than that output was lost.
func hasFault(err error) bool {
	var fault *cli.Fault
	return errors.As(err, &fault)
}
