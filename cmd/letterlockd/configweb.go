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
	return []*cobra.Command{p.configRoundcubeCommand(), p.configNginxCommand(), p.configApacheCommand()}
}

// roundcubeFlags are the flags of config roundcube.
type roundcubeFlags struct{ way, gateway, url, client, secretFile string }

func (p *program) configRoundcubeCommand() *cobra.Command {
	var f roundcubeFlags
	c := &cobra.Command{
		Use: "roundcube", Short: "print what makes Roundcube live without passwords",
		Long: `Print the end of Roundcube's config.inc.php. There are three ways:

  gateway  letterlockd stands in front and hands over a token with each request: no login
           form, nothing that outlives it, a log-out that ends everything. The best.
  oauth    Roundcube asks our authorization server itself and keeps the tokens; its log-out
           revokes them, and the same person's in other browsers. Enter it first with
           letterlockd client add, as the output says.
  apache   Apache's mod_auth_openidc signs people in at your identity provider, and the
           provider's own token goes to the mail servers; letterlockd checks issuer,
           audience and client ([issuer.NAME]). config apache prints its other half.

Without the included file everything is as it was.`,
		Example: `  letterlockd config roundcube > /etc/roundcube/letterlock.inc.php
  echo "include(__DIR__ . '/letterlock.inc.php');" >> /etc/roundcube/config.inc.php
  letterlockd config roundcube --way oauth --url https://webmail.example.org --client webmail --client-secret-file /root/webmail.secret`,
		Args: command.Exactly(0),
		RunE: func(*cobra.Command, []string) error { return p.printRoundcube(f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.way, "way", "gateway", "gateway, oauth or apache")
	flags.StringVar(&f.gateway, "gateway", "", "`name` of the section [gateway.NAME]; default: the only one")
	flags.StringVar(&f.url, "url", "", "with --way oauth: Roundcube's own `address`")
	flags.StringVar(&f.client, "client", "webmail", "with --way oauth: the `id` that it was entered with")
	flags.StringVar(&f.secretFile, "client-secret-file", "", "with --way oauth: a `file` with the secret that client add printed")
	return c
}

func (p *program) printRoundcube(f roundcubeFlags) error {
	var text string
	switch f.way {
	case "gateway":
		_, gate, err := p.gatewayNamed(f.gateway)
		if err != nil {
			return err
		}
		facts := recipe.Roundcube{PublicURL: gate.PublicURL}
		if u, err := url.Parse(gate.Upstream); err == nil && config.IsLoopback(u.Hostname()) {
			facts.Proxy = "127.0.0.1"
		}
		text = facts.Config()
	case "oauth":
		facts, err := p.roundcubeOAuth(f)
		if err != nil {
			return err
		}
		text = facts.Config()
	case "apache":
		text = recipe.RoundcubeApache{}.Config()
	default:
		return cli.Faultf(cli.Usage, "ways are gateway, oauth and apache", "there is no way %q", cli.Line(f.way))
	}
	_, err := fmt.Fprint(p.term.Out, text)
	return err
}

func (p *program) roundcubeOAuth(f roundcubeFlags) (recipe.RoundcubeOAuth, error) {
	conf, err := p.config()
	if err != nil {
		return recipe.RoundcubeOAuth{}, err
	}
	facts := recipe.RoundcubeOAuth{Name: conf.Portal.Name, Issuer: conf.Web.PublicURL, PublicURL: f.url, ClientID: f.client}
	if facts.Name == "" && len(conf.Domains) > 0 {
		facts.Name = conf.Domains[0]
	}
	if f.url == "" || facts.Issuer == "" {
		return facts, cli.Faultf(cli.Usage, "name Roundcube's address by --url https://webmail.example.org, and public_url in [web]", "an address is missing")
	}
	if _, err := plainPlace("--url", f.url); err != nil {
		return facts, err
	}
	if f.secretFile == "" {
		return facts, cli.Faultf(cli.Usage, fmt.Sprintf("enter it: letterlockd client add %s --name Webmail --redirect %s --without-pkce, and put the line that it prints into a file", f.client, facts.Redirect()),
			"--client-secret-file is missing")
	}
	secret, err := config.SecretFile(f.secretFile)
	if err != nil {
		return facts, cli.Wrap(cli.Config, err, "put the line that client add printed into it")
	}
	facts.ClientSecret = secret.Reveal()
	if p.term.OutTTY {
		// A secret on a screen is a secret in a scroll-back buffer.
		facts.ClientSecret = "(hidden: send the output to a file)"
	}
	return facts, nil
}

func (p *program) configNginxCommand() *cobra.Command {
	var name, fpm, root, listen string
	var ask bool
	c := &cobra.Command{
		Use: "nginx", Short: "print an nginx site for Roundcube behind the gateway",
		Long: `Print a server block that serves Roundcube by PHP-FPM at the upstream address of a gateway.
With --ask nginx serves people itself and asks letterlockd before each request (auth_request);
the gateway needs ask_listen for that, no certificate and no upstream, and trusted_proxies of
[web] must name the nginx. Roundcube then gets only those headers of the browser that the
printed site lists; a plugin that needs another one gets a line more. What else stands in the
same server is asked about too, and is told who it is by the variables $letterlock_user,
$letterlock_authorization and $letterlock_cookie; give it those in place of what the browser
sends.`,
		Example: `  letterlockd config nginx > /etc/nginx/sites-available/roundcube
  letterlockd config nginx --ask --listen 443 > /etc/nginx/sites-available/roundcube`,
		Args: command.Exactly(0),
		RunE: func(*cobra.Command, []string) error {
			name, gate, err := p.gatewayNamed(name)
			if err != nil {
				return err
			}
			facts := recipe.Nginx{Root: root, FPM: fpm, MaxUpload: gate.MaxUpload}
			if facts.MaxUpload == 0 {
				facts.MaxUpload = 128
			}
			if ask {
				if err := p.askFacts(&facts, name, gate, listen); err != nil {
					return err
				}
			} else if facts.Listen = gate.Upstream; !filepath.IsAbs(gate.Upstream) {
				u, err := url.Parse(gate.Upstream)
				if err != nil || u.Scheme != "http" || !config.IsLoopback(u.Hostname()) || u.Port() == "" {
					return cli.Faultf(cli.Config, "name http://127.0.0.1:PORT or a Unix socket there", "upstream of [gateway.%s] is not an address of this machine", name)
				}
				facts.Listen = u.Host
			}
			if err := plainWords(stated{"where nginx listens", facts.Listen}, stated{"--root", root}, stated{"--fpm", fpm}); err != nil {
				return err
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

func (p *program) askFacts(facts *recipe.Nginx, name string, gate config.Gateway, listen string) error {
	u, err := url.Parse(gate.PublicURL)
	if err != nil {
		return err
	}
	if gate.AskListen == "" || gate.Certificate != "" {
		return cli.Faultf(cli.Config, "set ask_listen, and take certificate and key out: nginx has them then", "[gateway.%s] is not made for --ask", name)
	}
	conf, err := p.config()
	if err != nil {
		return err
	}
	if !believesNginx(conf, gate.AskListen) {
		return cli.Faultf(cli.Config, "set trusted_proxies = [\"127.0.0.1/32\"] in [web]", "letterlockd does not believe nginx who asks: everybody would seem to come from this machine")
	}
	if err := plainWords(stated{"public_url", u.Host}, stated{"listen", gate.Listen}, stated{"ask_listen", gate.AskListen}); err != nil {
		return err
	}
	facts.Listen, facts.Name, facts.Host, facts.ServerName, facts.Ask, facts.Gate = listen, name, u.Host, u.Hostname(), gate.AskListen, gate.Listen
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

func (p *program) configApacheCommand() *cobra.Command {
	var f recipe.Apache
	c := &cobra.Command{
		Use: "apache", Short: "print an Apache site whose mod_auth_openidc passes the provider's token on",
		Long: `Print a virtual host for Roundcube behind mod_auth_openidc: people sign in at your identity
provider, and its own access token goes through Roundcube to Dovecot and Postfix. Those
ask letterlockd, which lets it in only for the audience and the client of [issuer.NAME].

The output says what to register at the provider: the redirect URI, where people come back
to after a log-out, and where it tells of one that was made elsewhere (back channel). A
second host, on this machine alone, renews tokens for Roundcube, one request at a time.`,
		Example: `  letterlockd config apache --issuer https://login.example.org/realms/mail --url https://webmail.example.org \
    --client webmail --client-secret-file /etc/letterlock/webmail.conf > /etc/apache2/sites-available/webmail.conf`,
		Args: command.Exactly(0),
		RunE: func(*cobra.Command, []string) error { return p.printApache(f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.Issuer, "issuer", "", "the issuer; default: the only [issuer.NAME]")
	flags.StringVar(&f.PublicURL, "url", "", "Roundcube's own `address` (needed)")
	flags.StringVar(&f.ClientID, "client", "webmail", "the client `id` that the provider gave you")
	flags.StringVar(&f.SecretFile, "client-secret-file", "/etc/letterlock/webmail.conf", "`file` for root alone with one line: OIDCClientSecret THE-SECRET")
	flags.StringVar(&f.Scope, "scope", "openid email offline_access", "what is asked for at the provider")
	flags.StringVar(&f.Resource, "resource", "", "resource indicator (RFC 8707) that makes the token one for mail, where the provider wants it")
	flags.StringVar(&f.NameClaim, "name-claim", "email", "claim with the mail address")
	flags.StringVar(&f.Root, "root", "/var/lib/roundcube/public_html", "`folder` of Roundcube's pages")
	flags.StringVar(&f.FPM, "fpm", "/run/php/php8.2-fpm.sock", "`socket` of PHP-FPM")
	flags.StringVar(&f.CacheDir, "cache", "/var/cache/apache2/openidc", "`folder` for sessions that Apache's processes share")
	flags.StringVar(&f.Renew, "renew-listen", "127.0.0.1:8089", "`address` on this machine where Roundcube gets a fresh token from Apache")
	flags.IntVar(&f.RenewBefore, "renew-before", 30, "`seconds` before a token's end that it is renewed; less than half of its life")
	return c
}

func (p *program) printApache(f recipe.Apache) error {
	conf, err := p.config()
	if err != nil {
		return err
	}
	if f.Issuer == "" && len(conf.Issuers) == 1 {
		for _, one := range conf.Issuers {
			f.Issuer = one.URL
		}
	}
	if err := checkApache(f); err != nil {
		return err
	}
	_, err = fmt.Fprint(p.term.Out, f.Site())
	return err
}
