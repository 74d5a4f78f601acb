package main

import (
	"context"
	"errors"
	"io/fs"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/oauth"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// flow is the flag's, or for an account that signed in as a machine the same again: no
// surroundings can take its place.
func (s *signIn) flow() provider.Flow {
	if s.o.flow != "" {
		return provider.Flow(s.o.flow)
	}
	if conf, err := s.p.config(); err == nil {
		switch last := provider.Flow(conf.Accounts[s.name].Flow); last {
		case provider.FlowClientCredentials, provider.FlowAssertion:
			return last
		}
	}
	return ""
}

// machine reports whether nobody is asked: the program signs in for itself.
func (s *signIn) machine() bool {
	flow := s.flow()
	return flow == provider.FlowClientCredentials || flow == provider.FlowAssertion
}

// forMachine narrows the provider to what a program without a person gets there.
func (s *signIn) forMachine() error {
	resolved, err := s.provider.ForMachine(s.flow())
	if err != nil {
		hint := "sign in as a person: --flow browser, device or paste"
		switch s.provider.Family() {
		case "microsoft":
			hint = "name the directory: --tenant DOMAIN or its id"
		case "google":
			hint = "use --flow assertion with the key file of a service account"
		}
		return cli.Wrap(cli.Config, err, hint)
	}
	s.provider = resolved
	if s.provider.Family() == "microsoft" && s.right == provider.SendOnly {
		return cli.Faultf(cli.Unavailable, "give the app SMTP.SendAsApp alone in the directory and sign in without --send-only",
			"what an app of %s may do is decided in the directory, not by what it asks for", s.title())
	}
	return nil
}

// machineClient finds out by which file the client proves itself, and reads it once so
// that a wrong one shows now.
func (s *signIn) machineClient(conf *config.Config) error {
	section := conf.Providers[s.providerName]
	id := s.o.clientID
	if id == "" {
		id = section.ClientID
	}
	keyFile, secretFile := absolute(s.o.keyFile), absolute(s.o.secretFile)
	switch {
	case keyFile != "" && secretFile != "":
		return cli.Faultf(cli.Usage, "take one of them", "--client-key-file and --client-secret-file exclude each other")
	case keyFile == "" && secretFile == "":
		if keyFile = section.ClientKeyFile; keyFile == "" {
			secretFile = section.ClientSecretFile
		}
	}
	if keyFile == "" && (secretFile == "" || s.flow() == provider.FlowAssertion) {
		return cli.Faultf(cli.Config, "add --client-key-file FILE, or for client-credentials --client-secret-file FILE",
			"a machine proves itself with a file, and none is named")
	}
	s.client = oauth.Client{ID: id}
	var err error
	if keyFile != "" {
		err = s.byKey(keyFile)
	} else {
		s.keyFile = secretFile
		if s.client.Auth = s.provider.Auth; s.client.Auth != oauth.AuthBasic {
			s.client.Auth = oauth.AuthPost
		}
		_, err = readSecretFile(secretFile)
	}
	if err != nil {
		return err
	}
	if s.client.ID == "" {
		return cli.Faultf(cli.Config, "add --client-id ID", "there is no client id for %s", s.title())
	}
	s.rememberMachine(section, keyFile, secretFile)
	return nil
}

// byKey settles on a private key. A service account is its own client.
func (s *signIn) byKey(path string) error {
	data, err := atomicfile.Read(path, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Faultf(cli.Config, "check --client-key-file", "there is no file %s", cli.Line(path))
	}
	if err != nil {
		return err
	}
	key, err := oauth.ParseKey(data)
	if err != nil {
		return cli.Wrap(cli.Config, &account.KeyFileError{Path: path, Err: err}, "it must be a private key in PEM without a passphrase (with its certificate for Microsoft), or a service account's JSON")
	}
	s.keyFile, s.client.Auth = path, oauth.AuthKeyJWT
	if email := key.ServiceAccount(); email != "" {
		if s.flow() != provider.FlowAssertion {
			return cli.Faultf(cli.Usage, "use --flow assertion", "%s is the key of a service account", cli.Line(path))
		}
		s.client.ID, s.client.Auth = email, oauth.AuthOmitted
	} else if s.provider.Family() == "google" {
		return cli.Faultf(cli.Config, "download the service account's key as JSON from the console", "%s is not the key file of a service account", cli.Line(path))
	}
	return nil
}

// rememberMachine keeps id and path for the provider, unless it has others already: the
// client of people and the app of machines are often two.
func (s *signIn) rememberMachine(section config.Provider, keyFile, secretFile string) {
	if section.ClientID != "" && section.ClientID != s.client.ID && s.client.Auth != oauth.AuthOmitted {
		return
	}
	add := func(name, had, value string) {
		if value != "" && had != value {
			s.providerSettings = append(s.providerSettings, config.Setting{Name: name, Text: value})
		}
	}
	if s.client.Auth != oauth.AuthOmitted {
		add("client_id", section.ClientID, s.client.ID)
	}
	add("client_key_file", section.ClientKeyFile, keyFile)
	add("client_secret_file", section.ClientSecretFile, secretFile)
}

// signInMachine asks for the first token, as every later one is asked for.
func (s *signIn) signInMachine(ctx context.Context) (granted, provider.Flow, error) {
	flow := s.provider.Flows[0]
	resource := s.resource()
	token, err := account.OverHTTP(s.http, s.p.now).Refresh(ctx, &account.Grant{
		Account: s.name, Login: s.login, Flow: flow, KeyFile: s.keyFile, Client: s.client, Endpoints: s.endpoints,
	}, account.Resource{Name: resource.Name, Scopes: resource.Scopes[s.right], Indicator: resource.Indicator})
	if err != nil {
		return granted{}, "", s.signInFault(err, flow)
	}
	return granted{Token: token}, flow, nil
}
