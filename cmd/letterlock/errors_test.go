package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// Every error that a room documents ends with a code of its own and says what to do.
func TestFaults(t *testing.T) {
	refused := &oauth.Error{Endpoint: "token", Status: 400, Code: "invalid_grant"}
	for _, c := range []struct {
		err  error
		code cli.Code
	}{
		{&account.SignInNeeded{Account: "a", Login: "a@b"}, cli.NoPerm},
		{&account.SignInNeeded{Account: "a", Login: "a@b", Provider: "google", Cause: refused}, cli.NoPerm},
		{&account.Rejected{Account: "a", Provider: "p", Err: &oauth.Error{Code: "invalid_client", Status: 401}}, cli.Config},
		{&account.Temporary{Account: "a", Step: "s", Err: errors.New("x")}, cli.TempFail},
		{&account.Temporary{Account: "a", Step: "s", Err: tokenstore.ErrLocked}, cli.TempFail},
		{account.ErrPurpose, cli.NoPerm},
		{account.ErrVersion, cli.Config},
		{account.ErrName, cli.NoUser},
		{tokenstore.ErrName, cli.NoUser},
		{tokenstore.ErrLocked, cli.TempFail},
		{tokenstore.ErrNoKey, cli.Config},
		{tokenstore.ErrDamaged, cli.DataError},
		{tokenstore.ErrNotFound, cli.NoPerm},
		{atomicfile.ErrNotPrivate, cli.Config},
		{refused, cli.NoPerm},
		{&oauth.Error{Endpoint: "token", Status: 503}, cli.TempFail},
		{&upstream.AuthError{Mechanism: "XOAUTH2", Reply: "NO"}, cli.NoPerm},
		{&upstream.AuthError{Mechanism: "XOAUTH2", Reply: "NO", Temporary: true}, cli.TempFail},
		{&upstream.MechanismError{}, cli.Unavailable},
		{&config.Error{Path: "f", Faults: []config.Fault{{Line: 1, Text: "x"}}}, cli.Config},
		{cli.ErrNobody, cli.Usage},
		{cli.ErrInterrupted, cli.TempFail},
		{context.DeadlineExceeded, cli.TempFail},
		{fs.ErrPermission, cli.CannotWrite},
		{errors.New("anything else"), cli.Software},
	} {
		var fault *cli.Fault
		err := explainFault(fmt.Errorf("while: %w", c.err))
		if !errors.As(err, &fault) || fault.Code != c.code || fault.Hint == "" {
			t.Errorf("%T %v: %+v, want code %d and a hint", c.err, c.err, fault, c.code)
		}
	}
	for _, c := range []struct {
		err  error
		code cli.Code
	}{
		{upstream.ErrPlain, cli.Config},
		{upstream.ErrNoSTARTTLS, cli.Unavailable},
		{upstream.ErrInjected, cli.Unavailable},
		{&upstream.ReplyError{Command: "greeting", Reply: "554"}, cli.Unavailable},
		{&upstream.ReplyError{Command: "greeting", Reply: "421", Temporary: true}, cli.TempFail},
		{errors.New("connection refused"), cli.TempFail},
	} {
		if fault := dialFault(c.err, "hint"); fault.Code != c.code {
			t.Errorf("%v: code %d, want %d", c.err, fault.Code, c.code)
		}
	}
}
