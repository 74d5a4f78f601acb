package main

import (
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
)

// docs makes everything that is generated, by path below docs/.
func (p *program) docs() (map[string][]byte, error) {
	book := command.Book{
		Section: "8",
		ExitStatus: `0, or a code of sysexits(3): 64 usage, 65 data, 67 no such person or address,
69 unavailable, 73 cannot create, 75 try again later, 77 not permitted, 78 configuration.`,
		Config: command.ConfigPage{
			Name: "letterlockd.toml", Of: "letterlockd(8)", Paths: []string{config.DaemonPath},
			Description: `The file is TOML. A file with faults is refused whole, with every fault and its line;
so is one that others may write. Secrets stand in files of their own, which not
everybody may read. Paths are absolute.`,
			Example: `domains = ["example.org"]

[postfix]
sasl = "/var/spool/postfix/letterlock/sasl"
senders = "/var/spool/postfix/letterlock/senders"
milter = "/var/spool/postfix/letterlock/milter"

[dovecot]
listen = "127.0.0.1:12001"
secret_file = "/etc/letterlock/dovecot.secret"

[doveadm.here]
url = "http://127.0.0.1:8085/doveadm/v1"
key_file = "/etc/letterlock/doveadm.key"`,
			SeeAlso: "letterlockd(8), letterlockd-config(8), postconf(5)",
		},
	}
	for _, section := range config.DescribeDaemon() {
		keys := make([]command.Key, len(section.Keys))
		for i, key := range section.Keys {
			keys[i] = command.Key{Name: key.Name, Doc: key.Doc}
		}
		book.Config.Sections = append(book.Config.Sections, command.Section{Name: section.Name, Doc: section.Doc, Keys: keys})
	}
	return book.Files(p.root())
}
