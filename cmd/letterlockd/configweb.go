package main

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/command"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/server/recipe"
)

// webConfigCommands print what web mail and the web servers need.
func (p *program) webConfigCommands() []*cobra.Command {
	return []*cobra.Command{p.configRoundcubeCommand(), p.configNginxCommand()}
}

func (p *program) configRoundcubeCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "roundcube", Short: "print what makes Roundcube take the gateway's word",
		Long: `Print the end of Roundcube's config.inc.php for a gateway of letterlockd.toml: no login
form, a token for IMAP and SMTP with each request, and a log-out that ends both.
Without the included file everything is as it was.`,
		Example: `  letterlockd config roundcube > /etc/roundcube/letterlock.inc.php
  echo "include(__DIR__ . '/letterlock.inc.php');" >> /etc/roundcube/config.inc.php`,
		Args: command.Exactly(0),
		RunE: func(*cobra.Command, []string) error {
			_, gate, err := p.gatewayNamed(name)
			if err != nil {
				return err
			}
			facts := recipe.Roundcube{PublicURL: gate.PublicURL}
			if u, err := url.Parse(gate.Upstream); err == nil && config.IsLoopback(u.Hostname()) {
				facts.Proxy = "127.0.0.1"
			}
			_, err = fmt.Fprint(p.term.Out, facts.Config())
			return err
		},
	}
	c.Flags().StringVar(&name, "gateway", "", "`name` of the section [gateway.NAME]; default: the only one")
	return c
}

func (p *program) configNginxCommand() *cobra.Command {
	var name, fpm, root, listen string
	var ask bool
	c := &cobra.Command{
		Use: "nginx", Short: "print an nginx site for Roundcube behind the gateway",
		Long: `Print a server block that serves Roundcube by PHP-FPM at the upstream address of a gateway.
With --ask nginx serves people itself and asks letterlockd before each request; the gateway
needs ask_listen for that, and trusted_proxies of [web] must name the nginx.`,
		Example: `  letterlockd config nginx > /etc/nginx/sites-available/roundcube
  letterlockd config nginx --ask --listen 443 > /etc/nginx/sites-available/roundcube`,
		Args: command.Exactly(0),
		RunE: func(*cobra.Command, []string) error {
			name, gate, err := p.gatewayNamed(name)
			if err != nil {
				return err
			}
			facts := recipe.Nginx{Root: root, FPM: fpm}
			if ask {
				if err := askFacts(&facts, name, gate, listen); err != nil {
					return err
				}
			} else if facts.Listen = gate.Upstream; !filepath.IsAbs(gate.Upstream) {
				u, err := url.Parse(gate.Upstream)
				if err != nil || u.Scheme != "http" || !config.IsLoopback(u.Hostname()) || u.Port() == "" {
					return cli.Faultf(cli.Config, "name http://127.0.0.1:PORT or a Unix socket there", "upstream of [gateway.%s] is not an address of this machine", name)
				}
				facts.Listen = u.Host
			}
			_, err = fmt.Fprint(p.term.Out, facts.Site())
			return err
		},
	}
	flags := c.Flags()
	flags.StringVar(&name, "gateway", "", "`name` of the section [gateway.NAME]; default: the only one")
	flags.StringVar(&fpm, "fpm", "/run/php/php8.2-fpm.sock", "`socket` of PHP-FPM")
	flags.StringVar(&root, "root", "/var/lib/roundcube/public_html", "`folder` of Roundcube's pages")
	flags.BoolVar(&ask, "ask", false, "nginx in front, asking by auth_request")
	flags.StringVar(&listen, "listen", "443", "with --ask: `address` at which nginx listens")
	return c
}

func askFacts(facts *recipe.Nginx, name string, gate config.Gateway, listen string) error {
	u, err := url.Parse(gate.PublicURL)
	if err != nil {
		return err
	}
	if gate.AskListen == "" || gate.Certificate != "" {
		return cli.Faultf(cli.Config, "set ask_listen, and take certificate and key out: nginx has them then", "[gateway.%s] is not made for --ask", name)
	}
	facts.Listen, facts.ServerName, facts.Ask, facts.Gate = listen, u.Hostname(), gate.AskListen, gate.Listen
	if u.Scheme == "https" {
		host := u.Hostname()
		facts.Certificate, facts.Key = "/etc/letsencrypt/live/"+host+"/fullchain.pem", "/etc/letsencrypt/live/"+host+"/privkey.pem"
	}
	return nil
}

// gatewayNamed finds a section; without a name the only one.
func (p *program) gatewayNamed(name string) (string, config.Gateway, error) {
	conf, err := p.config()
	if err != nil {
		return "", config.Gateway{}, err
	}
	names := slices.Sorted(maps.Keys(conf.Gateways))
	switch {
	case len(names) == 0:
		return "", config.Gateway{}, cli.Faultf(cli.Config, "letterlockd config describe explains it", "there is no [gateway.NAME] in %s", p.file)
	case name == "" && len(names) == 1:
		name = names[0]
	case name == "":
		return "", config.Gateway{}, cli.Faultf(cli.Usage, "say which by --gateway: "+strings.Join(names, ", "), "there are several gateways")
	}
	one, known := conf.Gateways[name]
	if !known {
		return "", config.Gateway{}, cli.Faultf(cli.Usage, "there are: "+strings.Join(names, ", "), "there is no [gateway.%s]", cli.Line(name))
	}
	return name, one, nil
}
