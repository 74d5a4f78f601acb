package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// muttName is the script whose place we take under its name.
const muttName = "mutt_oauth2.py"

// muttOptions are the script's arguments, those of Debian's version of 2020 and of the
// later ones.
type muttOptions struct {
	verbose, debug, authorize, test bool
	authflow                        string
	decrypt, encrypt                string
	clientID, clientSecret          string
	provider, email                 string
	format, protocol                string
}

// runMuttOAuth2 is the program under that name: an old .muttrc goes on working.
func (p *program) runMuttOAuth2(ctx context.Context, args []string) error {
	o, file, err := p.parseMutt(args)
	if err != nil || file == "" {
		return err
	}
	p.verbose = o.verbose && o.debug || o.debug
	if o.encrypt != "" {
		p.log().Debug("--encryption-pipe is not needed: letterlock keeps the grant itself")
	}
	conf, err := p.config()
	if err != nil {
		return err
	}
	name, known := p.accountOfFile(conf, file)
	switch {
	case o.authorize:
		name, err = p.authorizeMutt(ctx, file, name, o)
	case !known:
		name, err = p.adoptMutt(ctx, file, o)
	}
	if err != nil {
		return err
	}
	if err := p.printMutt(ctx, name, o); err != nil {
		return err
	}
	if o.test {
		// The token is standard output's only line, as mutt reads it.
		p.term.Out = p.term.Err
		return p.test(ctx, name, testOptions{timeout: 2 * time.Minute})
	}
	return nil
}

func (p *program) parseMutt(args []string) (muttOptions, string, error) {
	o := muttOptions{}
	f := pflag.NewFlagSet(muttName, pflag.ContinueOnError)
	f.SetOutput(p.term.Err)
	f.BoolVarP(&o.verbose, "verbose", "v", false, "")
	f.BoolVarP(&o.debug, "debug", "d", false, "")
	f.BoolVarP(&o.authorize, "authorize", "a", false, "")
	f.BoolVarP(&o.test, "test", "t", false, "")
	f.StringVar(&o.authflow, "authflow", "", "")
	f.StringVar(&o.decrypt, "decryption-pipe", "gpg --quiet --decrypt", "")
	f.StringVar(&o.encrypt, "encryption-pipe", "", "")
	f.StringVar(&o.clientID, "client-id", "", "")
	f.StringVar(&o.clientSecret, "client-secret", "", "")
	f.StringVar(&o.provider, "provider", "", "")
	f.StringVar(&o.email, "email", "", "")
	f.StringVar(&o.format, "format", "token", "")
	f.StringVar(&o.protocol, "protocol", "imap", "")
	f.Usage = func() {}
	const usage = "mutt_oauth2.py [-v] [-d] [-a] [-t] [--authflow authcode|localhostauthcode|devicecode] TOKENFILE; letterlock import --help tells more"
	err := f.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintln(p.term.Out, "usage: "+usage)
		return o, "", nil
	case err != nil:
		return o, "", cli.Wrap(cli.Usage, err, usage)
	case f.NArg() != 1:
		return o, "", cli.Faultf(cli.Usage, usage, "one token file is wanted")
	case o.clientSecret != "":
		return o, "", cli.Faultf(cli.Usage, "letterlock register keeps it in a file", "a secret in the arguments is seen by every user of this computer")
	case !slices.Contains([]string{"token", "sasl", "msasl"}, o.format):
		return o, "", cli.Faultf(cli.Usage, "it is token, sasl or msasl", "--format %s is unknown", cli.Line(o.format))
	case muttFlow(o.authflow) == "" && o.authflow != "":
		return o, "", cli.Faultf(cli.Usage, "it is authcode, localhostauthcode or devicecode", "--authflow %s is unknown", cli.Line(o.authflow))
	case muttProtocol(o.protocol) == "":
		return o, "", cli.Faultf(cli.Usage, "it is imap, pop or smtp", "--protocol %s is unknown", cli.Line(o.protocol))
	}
	return o, f.Arg(0), nil
}

func muttFlow(authflow string) string {
	switch authflow {
	case "authcode":
		return string(provider.FlowPaste)
	case "localhostauthcode":
		return string(provider.FlowBrowser)
	case "devicecode":
		return string(provider.FlowDevice)
	}
	return ""
}

func muttProtocol(protocol string) string {
	switch protocol {
	case "imap", "smtp":
		return protocol
	case "pop", "pop3":
		return "pop3"
	}
	return ""
}

// adoptMutt imports a token file at its first use.
func (p *program) adoptMutt(ctx context.Context, file string, o muttOptions) (string, error) {
	if _, err := os.Stat(file); err != nil {
		return "", cli.Faultf(cli.NoPerm, muttName+" --authorize "+shellWord(file), "there is no token file %s and no account in its place", cli.Line(file))
	}
	name, err := p.importMutt(ctx, file, importOptions{decrypt: o.decrypt, login: loginOptions{provider: o.provider, clientID: o.clientID}})
	if !errors.Is(err, errHasGrant) {
		return name, err
	}
	// Another process may have taken this very file over while we read it.
	p.conf = nil
	if conf, confErr := p.config(); confErr == nil {
		if known, ok := p.accountOfFile(conf, file); ok {
			return known, nil
		}
	}
	return "", err
}

// authorizeMutt signs in anew; what the script would have asked for is asked for.
func (p *program) authorizeMutt(ctx context.Context, file, name string, o muttOptions) (string, error) {
	conf, err := p.config()
	if err != nil {
		return "", err
	}
	address := firstOf(o.email, conf.Accounts[name].Login)
	if address == "" {
		if address, err = p.term.Ask(ctx, "account e-mail address: "); err != nil {
			return "", err
		}
		address = strings.TrimSpace(address)
	}
	l := loginOptions{account: name, provider: o.provider, clientID: o.clientID, flow: muttFlow(o.authflow), tokenFile: realPath(file)}
	return firstOf(name, address), p.login(ctx, address, l)
}

// printMutt prints what the script prints. It does so to a terminal too: so did the
// script, and who calls it by hand wants to see something.
func (p *program) printMutt(ctx context.Context, name string, o muttOptions) error {
	t := tokenOptions{minValidity: 5 * time.Minute, purpose: muttProtocol(o.protocol), show: true}
	if o.format != "token" {
		m, err := p.account(name)
		if err != nil {
			return err
		}
		t.sasl = "oauthbearer"
		if slices.Contains(m.provider.Mechanisms, "XOAUTH2") {
			t.sasl = "xoauth2"
		}
	}
	return p.token(ctx, name, t)
}
