package main

import (
	"context"
	"path/filepath"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/config"
)

// keysOf is the key source of an account's grant: its own, the configured default,
// else the one that has a key already (an account whose section was deleted by hand).
func (p *program) keysOf(name string) (tokenstore.Keys, error) {
	conf, err := p.config()
	if err != nil {
		return nil, err
	}
	if key := conf.Accounts[name].Key; key != "" {
		return p.keySource(key)
	}
	if conf.Key != "" {
		return p.keySource(conf.Key)
	}
	for _, source := range []string{"keyring", "gpg", "passphrase", "systemd", "file"} {
		keys, err := p.keySource(source)
		if err != nil {
			continue
		}
		if _, err := keys.Recipient(); err == nil {
			return keys, nil
		}
	}
	return p.keySource("file")
}

// watchedKeysOf is keysOf, of which the agent wants to know whether it was in vain.
func (p *program) watchedKeysOf(name string) (tokenstore.Keys, error) {
	keys, err := p.keysOf(name)
	if err != nil || p.locked == nil {
		return keys, err
	}
	return tokenstore.Watch(keys, func(err error) { p.locked.note(name, err) }), nil
}

// keySource opens a source by the name that configuration or --key gives it.
func (p *program) keySource(name string) (tokenstore.Keys, error) {
	conf, err := p.config()
	if err != nil {
		return nil, err
	}
	paths, err := p.where()
	if err != nil {
		return nil, err
	}
	key, ok := conf.Keys[name]
	if !ok {
		key = config.Key{Source: name}
	}
	return openKeys(filepath.Join(paths.State, "keys"), name, key, p)
}

func openKeys(folder, name string, key config.Key, p *program) (tokenstore.Keys, error) {
	switch key.Source {
	case "file":
		if key.Path != "" {
			folder = key.Path
		}
		return tokenstore.NewFile(folder), nil
	case "keyring":
		return tokenstore.NewKeyring(folder, p.surroundings()), nil
	case "gpg":
		return tokenstore.NewGPG(folder, key.Recipient, p.surroundings()), nil
	case "passphrase":
		return p.passphrase(folder, name), nil
	case "systemd":
		return tokenstore.NewSystemd(folder, name, key.Credential, key.Recipient, p.surroundings()), nil
	case "command":
		return tokenstore.NewCommand(folder, name, key.Command, key.Recipient, p.surroundings()), nil
	case "pipe":
		return tokenstore.NewPipe(folder, key.Encrypt, key.Decrypt, p.surroundings()), nil
	}
	return nil, cli.Faultf(cli.Config, "it is keyring, gpg, passphrase, systemd, file, or the NAME of a [key.NAME] section", "there is no key source %q", cli.Line(name))
}

// chooseKeys picks where a new grant's key is kept, and what to tell about it.
func (p *program) chooseKeys(ctx context.Context, flag, name string) (source string, keys tokenstore.Keys, remark string, err error) {
	conf, err := p.config()
	if err != nil {
		return "", nil, "", err
	}
	for _, source := range []string{flag, conf.Accounts[name].Key, conf.Key} {
		if source == "" {
			continue
		}
		keys, err := p.keySource(source)
		if err != nil {
			return "", nil, "", err
		}
		if err := keys.Create(ctx); err != nil {
			return "", nil, "", err
		}
		return source, keys, keyRemark(keys.Source()), nil
	}
	for _, found := range tokenstore.Detect(ctx, p.surroundings()) {
		if !found.Usable {
			p.log().Debug("key source not usable", "source", found.Source, "reason", found.Reason)
			continue
		}
		keys, err := p.detected(found)
		if err == nil {
			err = keys.Create(ctx)
		}
		if err == nil {
			return found.Source, keys, keyRemark(found.Source), nil
		}
		p.term.Sayf("note: the key source %s could not be used: %s", found.Source, cli.Line(err.Error()))
	}
	keys, err = p.keySource("file")
	if err != nil {
		return "", nil, "", err
	}
	return "file", keys, keyRemark("file"), keys.Create(ctx)
}

func keyRemark(source string) string {
	switch source {
	case "keyring":
		return "its key is in the desktop's keyring; for timers and cron, which cannot unlock that, sign in once more with --key file and another --account"
	case "gpg":
		return "its key is encrypted by gpg; timers and cron need a gpg-agent that holds the passphrase, or an account of their own with --key file"
	case "file":
		return "its key lies in a file beside it: whoever can read this disk can use the grant; --key passphrase makes it ask, once for the agent"
	case "passphrase":
		return "its key is encrypted by your passphrase: the agent asks for it once after each start (letterlock agent unlock); without an agent every command asks, and timers and cron cannot"
	case "systemd":
		return "its key is a systemd credential: only units that load it can use the grant"
	case "command":
		return "its key is what a command of yours prints; timers and cron need that command to work without you"
	case "pipe":
		return "its key is decrypted by a command of yours; timers and cron need that command to work without you"
	}
	return ""
}

// detected opens a source that was found, with gpg's key unless configured.
func (p *program) detected(found tokenstore.Finding) (tokenstore.Keys, error) {
	conf, err := p.config()
	if err != nil {
		return nil, err
	}
	if _, configured := conf.Keys[found.Source]; configured || found.Source != "gpg" {
		return p.keySource(found.Source)
	}
	paths, err := p.where()
	if err != nil {
		return nil, err
	}
	return openKeys(filepath.Join(paths.State, "keys"), found.Source, config.Key{Source: "gpg", Recipient: found.Key}, p)
}

// surroundings are looked at once, and only for sources that run programs.
func (p *program) surroundings() tokenstore.Surroundings {
	if p.around == nil {
		around := tokenstore.FindSurroundings(p.environ)
		p.around = &around
	}
	return *p.around
}
