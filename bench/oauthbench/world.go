package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/letterlock-mail/letterlock/bench/load"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/server/database"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

const (
	person  = "ann@try.test"
	phone   = identity.ClientID("phone") // a program of hers
	machine = "board"                    // acts as her mailbox by client credentials
	issuer  = "http://issuer.try.test"   // of the signed tokens
)

// A world is one database with two daemons, one of them on one core, and the Dovecots.
type world struct {
	o          order
	folder     string
	secret     string   // of the machine
	access     []string // tokens in force
	renew      []string // refresh tokens, one for each connection
	daemons    []*daemon
	dovecots   []*lab.Dovecot
	es256      string
	rs256      string
	dovecotKey string
}

// A daemon is letterlockd and where it answers.
type daemon struct {
	process      *lab.Process
	pages, asked int
	sasl         string
}

func newWorld(ctx context.Context, o order) (*world, error) {
	folder, err := os.MkdirTemp("", "letterlock-oauthbench-")
	if err != nil {
		return nil, err
	}
	w := &world{o: o, folder: folder, dovecotKey: "dove-secret"}
	if err := errors.Join(os.Chmod(folder, 0o755), os.WriteFile(w.file("dovecot.secret"), []byte(w.dovecotKey+"\n"), 0o600)); err != nil {
		return w, err
	}
	for _, step := range []func(context.Context) error{w.startDaemons, w.startDovecots} {
		if err := step(ctx); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *world) file(name string) string { return filepath.Join(w.folder, name) }

func (w *world) close() error {
	for _, d := range w.daemons {
		d.process.Stop()
	}
	for _, d := range w.dovecots {
		d.Stop()
	}
	return os.RemoveAll(w.folder)
}

func (w *world) configure(name string, d *daemon) error {
	return os.WriteFile(w.file(name), fmt.Appendf(nil, `domains = ["try.test"]
[database]
url = "sqlite:%[1]s/letterlockd.db"
[web]
public_url = "http://127.0.0.1:%[2]d"
listen = "127.0.0.1:%[2]d"
master_key_file = "%[1]s/master.key"
[dovecot]
listen = "127.0.0.1:%[3]d"
secret_file = "%[1]s/dovecot.secret"
[postfix]
sasl = %[4]q
[throttle]
allow = ["127.0.0.0/8"]
`, w.folder, d.pages, d.asked, d.sasl), 0o600)
}

// run is a command of letterlockd; it returns what it printed.
func (w *world) run(ctx context.Context, args ...string) (string, error) {
	var stderr bytes.Buffer
	c := exec.CommandContext(ctx, w.o.daemon, append([]string{"--config", w.file("all.toml")}, args...)...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("letterlockd %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// startDaemons starts one on all cores and one on a single core, on one database.
func (w *world) startDaemons(ctx context.Context) error {
	ports, err := lab.FreePorts(4)
	if err != nil {
		return err
	}
	for i, name := range []string{"all.toml", "one.toml"} {
		d := &daemon{pages: ports[2*i], asked: ports[2*i+1], sasl: w.file(strings.TrimSuffix(name, ".toml") + ".sasl")}
		if err := w.configure(name, d); err != nil {
			return err
		}
		env := os.Environ()
		if i == 0 {
			if err := w.fill(ctx); err != nil {
				return fmt.Errorf("fill the database: %w", err)
			}
		} else {
			env = append(env, "GOMAXPROCS=1")
		}
		d.process, err = lab.StartProcess(lab.ProcessOptions{Name: "letterlockd", Path: w.o.daemon, Args: []string{"--config", w.file(name), "serve", "--log", "warn"}, Env: env})
		if err != nil {
			return err
		}
		w.daemons = append(w.daemons, d)
		for _, at := range []struct{ network, address string }{{"tcp", local(d.pages)}, {"tcp", local(d.asked)}, {"unix", d.sasl}} {
			if err := answers(ctx, at.network, at.address, d.process); err != nil {
				return err
			}
		}
	}
	return nil
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func answers(ctx context.Context, network, address string, p *lab.Process) error {
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.Done():
			return fmt.Errorf("letterlockd ended: %s", strings.Join(p.Log(), "; "))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// fill makes the person, her program with a consent and tokens, and the machine.
func (w *world) fill(ctx context.Context) error {
	if _, err := w.run(ctx, "person", "add", person); err != nil {
		return err
	}
	if _, err := w.run(ctx, "client", "add", string(phone), "--name", "Phone", "--public", "--redirect", "http://127.0.0.1/cb"); err != nil {
		return err
	}
	var err error
	if w.secret, err = w.run(ctx, "client", "add", machine, "--name", "Ticket board", "--person", person, "--scope", "imap,smtp"); err != nil {
		return err
	}
	db, err := database.Open(ctx, w.file("letterlockd.db"), database.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	ann, err := db.PersonByAddress(ctx, person)
	if err != nil {
		return err
	}
	now := time.Now()
	grant := identity.Grant{ID: "bench", Person: ann.ID, Client: phone, Scopes: []string{"imap", "smtp", "offline_access"}, Created: now}
	code := identity.Code{Digest: identity.DigestOf("bench"), Grant: grant.ID, Client: phone, RedirectURI: "http://127.0.0.1/cb", Challenge: "x", AuthTime: now, Expires: now.Add(time.Minute)}
	if err := db.AddCode(ctx, grant, code); err != nil {
		return err
	}
	for n := range max(w.o.tokens, w.o.conns) {
		access, renew, refresh := mint("llat_"), mint("llrt_"), identity.RefreshToken{}
		if n < w.o.conns {
			w.renew = append(w.renew, renew)
			refresh = identity.RefreshToken{Digest: identity.DigestOf(renew), Grant: grant.ID, Issued: now, Expires: now.Add(24 * time.Hour)}
		}
		w.access = append(w.access, access)
		record := identity.AccessToken{Digest: identity.DigestOf(access), Grant: grant.ID, Scopes: []string{"imap", "smtp"}, Issued: now, Expires: now.Add(time.Hour)}
		if err := db.Issue(ctx, record, refresh); err != nil {
			return err
		}
	}
	return nil
}

// mint makes a token in letterlockd's form.
func mint(prefix string) string {
	random := make([]byte, 32)
	rand.Read(random) // it never fails (crypto/rand)
	return prefix + base64.RawURLEncoding.EncodeToString(random)
}

// startDovecots starts one that asks, one for each kind of signature that asks nobody.
func (w *world) startDovecots(ctx context.Context) error {
	folder := w.file("ca")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	ca, err := lab.NewCA(folder)
	if err != nil {
		return err
	}
	// The lab has each refusal logged, which no busy site does.
	quiet := "auth_verbose = no\n"
	asks, err := lab.StartDovecot(ctx, lab.DovecotOptions{
		CA: ca, Introspection: fmt.Sprintf("http://%s/dovecot/introspect", local(w.daemons[0].asked)), ClientID: "dovecot", ClientSecret: w.dovecotKey,
		NameClaim: "username", Scope: "imap", Extra: quiet,
	})
	if err != nil {
		return err
	}
	w.dovecots = append(w.dovecots, asks)
	if err := w.keys(); err != nil {
		return err
	}
	settings := "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix=" + w.file("keys") + "/\nissuers = " + issuer +
		"\nusername_attribute = email\nscope = mail\nactive_attribute =\nactive_value =\n"
	if err := os.WriteFile(w.file("local.ext"), []byte(settings), 0o644); err != nil {
		return err
	}
	alone, err := lab.StartDovecot(ctx, lab.DovecotOptions{
		CA: ca, Introspection: "-", Extra: quiet + "passdb {\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = " + w.file("local.ext") + "\n}\n",
	})
	if err != nil {
		return err
	}
	w.dovecots = append(w.dovecots, alone)
	return nil
}

// keys makes a key of each kind, the files that Dovecot reads them from, and a token.
func (w *world) keys() error {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	for _, one := range []struct {
		algorithm       jose.SignatureAlgorithm
		private, public any
		token           *string
	}{{jose.ES256, ec, &ec.PublicKey, &w.es256}, {jose.RS256, rs, &rs.PublicKey, &w.rs256}} {
		der, err := x509.MarshalPKIXPublicKey(one.public)
		if err != nil {
			return err
		}
		folder := filepath.Join(w.file("keys"), "default", string(one.algorithm))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, "default"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
			return err
		}
		if *one.token, err = sign(one.algorithm, one.private); err != nil {
			return err
		}
	}
	return nil
}

func sign(algorithm jose.SignatureAlgorithm, key any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	now := time.Now()
	claims, err := json.Marshal(map[string]any{"iss": issuer, "sub": "1001", "email": person, "scope": "mail", "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix()})
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// turns takes tokens in turns, each connection from another place.
func turns(tokens []string, n int) func() string {
	at := n * 7919
	return func() string {
		at++
		return tokens[at%len(tokens)]
	}
}

func always(token string) func() string { return func() string { return token } }

func (w *world) contests() []contest {
	all, one := w.daemons[0], w.daemons[1]
	contests := []contest{
		w.granting("grants: renewals, rotated", all, func(n int) url.Values {
			return url.Values{"grant_type": {"refresh_token"}, "client_id": {string(phone)}, "refresh_token": {w.renew[n]}}
		}),
		w.granting("grants: client credentials", all, func(int) url.Values {
			return url.Values{"grant_type": {"client_credentials"}, "client_id": {machine}, "client_secret": {w.secret}}
		}),
		w.introspecting("introspections, as Dovecot asks", all, "/dovecot/introspect", all.asked),
		w.introspecting("introspections, as Dovecot asks, one core", one, "/dovecot/introspect", one.asked),
		w.logins("OAUTHBEARER: Dovecot asks letterlockd", all.process.Pid(), "tcp", local(w.dovecots[0].AuthPort), w.access),
		w.logins("OAUTHBEARER: Dovecot alone, JWT, RS256", 0, "tcp", local(w.dovecots[1].AuthPort), []string{w.rs256}),
		w.logins("OAUTHBEARER: Dovecot alone, JWT, ES256", 0, "tcp", local(w.dovecots[1].AuthPort), []string{w.es256}),
		w.logins("OAUTHBEARER: letterlockd itself, as Postfix asks", all.process.Pid(), "unix", all.sasl, w.access),
		w.logins("OAUTHBEARER: letterlockd itself, one core", one.process.Pid(), "unix", one.sasl, w.access),
	}
	for i := range contests {
		contests[i].paced = contests[i].pid == one.process.Pid()
	}
	return contests
}

func (w *world) granting(name string, d *daemon, form func(n int) url.Values) contest {
	return contest{name: name, pid: d.process.Pid(), worker: func(_ context.Context, n int) (load.Worker, error) {
		return &poster{load.Line{Network: "tcp", Address: local(d.pages)}, "/token", func() url.Values { return form(n) }, func(body []byte) error {
			var value struct {
				Access string `json:"access_token"`
				Renew  string `json:"refresh_token"`
			}
			if err := json.Unmarshal(body, &value); err != nil || value.Access == "" {
				return fmt.Errorf("no token: %.200s", body)
			}
			if value.Renew != "" {
				w.renew[n] = value.Renew // only this connection has it
			}
			return nil
		}}, nil
	}}
}

func (w *world) introspecting(name string, d *daemon, path string, port int) contest {
	with := func(token func() string) load.Worker {
		return &poster{load.Line{Network: "tcp", Address: local(port)}, path, func() url.Values {
			return url.Values{"token": {token()}, "client_id": {"dovecot"}, "client_secret": {w.dovecotKey}}
		}, active}
	}
	return contest{name: name, pid: d.process.Pid(),
		worker: func(_ context.Context, n int) (load.Worker, error) { return with(turns(w.access, n)), nil },
		forged: func(context.Context, int) (load.Worker, error) { return with(always(mint("llat_"))), nil },
	}
}

func (w *world) logins(name string, pid int, network, address string, tokens []string) contest {
	return contest{name: name, pid: pid,
		worker: func(_ context.Context, n int) (load.Worker, error) {
			return dialMailServer(network, address, n, turns(tokens, n))
		},
		forged: func(_ context.Context, n int) (load.Worker, error) {
			token := mint("llat_")
			if head, _, signed := strings.Cut(tokens[0], "."); signed { // the same claims, another signature
				payload := strings.Split(tokens[0], ".")[1]
				token = head + "." + payload + "." + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 64))
			}
			return dialMailServer(network, address, n, always(token))
		},
	}
}

// revocation ends the program's consent at one of the daemons, and asks all about its
// tokens: what they cached they believe for as long as it takes to look at the database
// again, which they do each second.
func (w *world) revocation(ctx context.Context) error {
	revoke := &poster{load.Line{Network: "tcp", Address: local(w.daemons[1].pages)}, "/revoke", func() url.Values {
		return url.Values{"client_id": {string(phone)}, "token": {w.renew[0]}}
	}, func([]byte) error { return nil }}
	if err := errors.Join(revoke.Do(ctx), revoke.Close()); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	begun := time.Now()
	once := load.Bounds{Conns: 1, Span: time.Minute, Most: 1}
	for _, c := range w.contests() {
		if c.forged == nil || c.pid == 0 {
			continue
		}
		for {
			_, err := load.Run(ctx, once, c.worker)
			if errors.Is(err, errRefused) {
				fmt.Printf("revoked %4d ms ago, refused: %s\n", time.Since(begun).Milliseconds(), c.name)
				break
			}
			if err != nil || time.Since(begun) > 10*time.Second {
				return fmt.Errorf("%s: a token revoked %v ago: %v, want a refusal", c.name, time.Since(begun), err)
			}
		}
	}
	fmt.Println("a signed token, checked by Dovecot alone, goes on until it expires")
	return nil
}
