package main

import (
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
)

// docs makes everything that is generated from the commands and the description of
// the configuration, by path below docs/.
func (p *program) docs() (map[string][]byte, error) {
	book := command.Book{
		Section: "1",
		ExitStatus: `0, or a code of sysexits(3): 64 usage, 65 data, 67 no such account, 69 unavailable,
73 cannot create, 75 try again later, 77 sign in again, 78 configuration.`,
		Config: configPage(),
	}
	return book.Files(p.root(nil))
}

// configPage is letterlock.toml(5).
func configPage() command.ConfigPage {
	return command.ConfigPage{
		Name: "letterlock.toml", Of: "letterlock(1)",
		Paths:    []string{"$XDG_CONFIG_HOME/letterlock/config.toml", "/etc/letterlock/letterlock.toml (with --system)"},
		Sections: configSections(),
		Description: `The file is TOML. register and login write the sections they need and leave every
other byte of it alone, comments included. A file with faults is refused whole, with
every fault and its line; so is one that others may write, and one with a
client_secret that others may read. Paths are absolute. None of this is a token:
grants are kept elsewhere, encrypted.`,
		Example: `default_key = "gpg"

[provider.google]
client_id = "1234-ab.apps.googleusercontent.com"
client_secret_file = "/home/you/.config/letterlock/google.secret"

[account."you@gmail.com"]
provider = "google"
right = "full"

[account.cron]
provider = "google"
login = "you@gmail.com"
right = "send-only"
key = "file"`,
		SeeAlso: "letterlock(1), letterlock-login(1), letterlock-register(1)",
	}
}

func configSections() []command.Section {
	var out []command.Section
	for _, section := range config.Describe() {
		keys := make([]command.Key, len(section.Keys))
		for i, key := range section.Keys {
			keys[i] = command.Key{Name: key.Name, Doc: key.Doc}
		}
		out = append(out, command.Section{Name: section.Name, Doc: section.Doc, Keys: keys})
	}
	return out
}
