package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/client/upstream"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// explainFault turns the errors of the rooms into what a person can act on. It is
// the only place that knows all of them.
func explainFault(err error) error {
	var fault *cli.Fault
	if errors.As(err, &fault) {
		return err
	}
	for _, explain := range []func(error) *cli.Fault{configFault, accountFault, storeFault, oauthFault, mailFault, systemFault} {
		if fault := explain(err); fault != nil {
			return fault
		}
	}
	// cobra's own complaints about arguments carry no type.
	if text := err.Error(); strings.HasPrefix(text, "unknown command") || strings.HasPrefix(text, "unknown flag") || strings.HasPrefix(text, "required flag") {
		return cli.Wrap(cli.Usage, err, "letterlock --help lists the commands")
	}
	return &cli.Fault{Code: cli.Software, What: err.Error(), Hint: "letterlock report makes a text for a bug report, without secrets", Err: err}
}

func configFault(err error) *cli.Fault {
	var faults *config.Error
	if !errors.As(err, &faults) {
		return nil
	}
	lines := faults.Lines()
	f := &cli.Fault{Code: cli.Config, What: lines[0], Hint: "correct it; man letterlock.toml describes every key; nothing was done", Err: err}
	if len(lines) > 1 {
		f.What = fmt.Sprintf("the configuration has %d faults", len(lines))
		f.Details = lines
	}
	if strings.Contains(lines[0], ": mode ") {
		f.Hint = "chmod 600 " + shellWord(faults.Path) + "; nothing was done"
	}
	if strings.Contains(lines[0], ": belongs to uid ") {
		f.Hint = "a configuration can name programs to run: use one that belongs to you or to root; nothing was done"
	}
	return f
}

func accountFault(err error) *cli.Fault {
	var needed *account.SignInNeeded
	var rejected *account.Rejected
	switch {
	case errors.As(err, &needed):
		hint := "letterlock login " + shellWord(needed.Login)
		if needed.Account != needed.Login {
			hint += " --account " + shellWord(needed.Account)
		}
		return &cli.Fault{Code: cli.NoPerm, What: err.Error(), Details: likelyCause(needed), Hint: hint, Err: err}
	case errors.As(err, &rejected):
		return rejectedFault(rejected, err)
	case errors.Is(err, account.ErrPurpose):
		return cli.Wrap(cli.NoPerm, err, "sign in again with a right that covers it, as another account if this one shall stay narrow")
	case errors.Is(err, account.ErrVersion):
		return cli.Wrap(cli.Config, err, "use the newer letterlock that wrote it, or sign in again")
	case errors.Is(err, account.ErrName), errors.Is(err, tokenstore.ErrName):
		return cli.Wrap(cli.NoUser, err, "letterlock accounts lists the accounts there are")
	}
	return nil
}

// rejectedFault is about a client that the provider does not take any more.
func rejectedFault(rejected *account.Rejected, err error) *cli.Fault {
	var keyFile *account.KeyFileError
	if errors.As(err, &keyFile) {
		return cli.Wrap(cli.Config, err, "put the secret or key back there, for this user alone (chmod 600), or sign in again with another; nothing was asked")
	}
	f := cli.Wrap(cli.Config, err, "the client id or its secret is no longer good: letterlock register "+shellWord(rejected.Provider))
	var answer *oauth.Error
	if !errors.As(err, &answer) {
		return f
	}
	f.Details = causeAndRemedy(diagnose(rejected.Provider, answer, 0, 0))
	if answer.Code == "invalid_scope" {
		f.Hint = "the provider does not give this client these scopes: letterlock explain invalid_scope"
	}
	return f
}

func storeFault(err error) *cli.Fault {
	var locked *tokenstore.LockedError
	switch {
	case errors.As(err, &locked):
		return cli.Wrap(cli.TempFail, err, locked.How)
	case errors.Is(err, tokenstore.ErrLocked):
		return cli.Wrap(cli.TempFail, err, "unlock the key (log in to the desktop, or let gpg ask once: letterlock accounts), then try again")
	case errors.Is(err, tokenstore.ErrNoKey):
		return cli.Wrap(cli.Config, err, "bring the key back, or sign in again with letterlock login, which makes a new one")
	case errors.Is(err, tokenstore.ErrDamaged):
		return cli.Wrap(cli.DataError, err, "bring the file back from a backup, or sign in again with letterlock login")
	case errors.Is(err, atomicfile.ErrNotPrivate):
		return cli.Wrap(cli.Config, err, "somebody else may have read it: look who, then chown and chmod go-rwx it; nothing was changed")
	case errors.Is(err, tokenstore.ErrNotFound):
		return cli.Wrap(cli.NoPerm, err, "letterlock login ADDRESS signs in")
	}
	// Temporary comes after the causes it may wrap: a locked key says more.
	var temporary *account.Temporary
	if errors.As(err, &temporary) {
		return cli.Wrap(cli.TempFail, err, temporaryHint(err))
	}
	return nil
}

func temporaryHint(err error) string {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room on that disk, then try again; the grant is as it was"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return "make that folder writable, then try again; the grant is as it was"
	case errors.As(err, &certificate):
		return "if this network reads along, leave it; if the server has an authority of its own, set ca_file; no token was sent"
	}
	return "the grant is kept as it was: try again in a moment"
}

func oauthFault(err error) *cli.Fault {
	var answer *oauth.Error
	if !errors.As(err, &answer) {
		return nil
	}
	if answer.Temporary() {
		return cli.Wrap(cli.TempFail, err, "try again in a moment")
	}
	return cli.Wrap(cli.NoPerm, err, remedy(answer))
}

func mailFault(err error) *cli.Fault {
	var refused *upstream.AuthError
	var mechanism *upstream.MechanismError
	switch {
	case errors.As(err, &mechanism):
		return cli.Wrap(cli.Unavailable, err, "the server takes no tokens, or not by these mechanisms: ask its administrator")
	case !errors.As(err, &refused):
		return nil
	case refused.Temporary:
		return cli.Wrap(cli.TempFail, err, "try again in a moment")
	}
	return cli.Wrap(cli.NoPerm, err, "letterlock test ACCOUNT finds out why")
}

// dialFault tells what waiting mends from what it does not.
func dialFault(err error, hint string) *cli.Fault {
	var certificate *tls.CertificateVerificationError
	var reply *upstream.ReplyError
	switch {
	case errors.Is(err, upstream.ErrPlain):
		return cli.Wrap(cli.Config, err, "set the server's security to tls or starttls")
	case errors.Is(err, upstream.ErrNoSTARTTLS), errors.Is(err, upstream.ErrInjected), errors.Is(err, upstream.ErrProtocol), errors.As(err, &certificate):
		return cli.Wrap(cli.Unavailable, err, hint)
	case errors.As(err, &reply) && !reply.Temporary:
		return cli.Wrap(cli.Unavailable, err, hint)
	}
	return cli.Wrap(cli.TempFail, err, hint)
}

func systemFault(err error) *cli.Fault {
	switch {
	case errors.Is(err, cli.ErrInterrupted), errors.Is(err, context.Canceled):
		return cli.Wrap(cli.TempFail, errors.New("interrupted"), "nothing was changed")
	case errors.Is(err, context.DeadlineExceeded):
		return cli.Wrap(cli.TempFail, err, "try again in a moment")
	case errors.Is(err, cli.ErrNobody):
		return cli.Wrap(cli.Usage, err, "run it in a terminal, or give what it asks for as flags")
	case errors.Is(err, fs.ErrPermission):
		return cli.Wrap(cli.CannotWrite, err, "check who owns it; nothing was changed")
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EROFS):
		return cli.Wrap(cli.CannotWrite, err, "look what is in its place; nothing was changed")
	}
	return nil
}
