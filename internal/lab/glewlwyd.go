package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// GlewlwydOptions describe a second identity provider.
type GlewlwydOptions struct {
	// People who can sign in. Default: Alice and Bob.
	People []Person
	// RedirectURIs of the client, byte for byte. Required.
	RedirectURIs []string
	// Elsewhere is the redirect URI of a second client, OtherClient, with the same secret;
	// empty: there is none.
	Elsewhere string
	// Backchannel is where the client hears of log-outs (OpenID Connect Back-Channel Logout
	// 1.0); empty: nowhere.
	Backchannel string
	// Unverified leaves the claim email_verified out, as glewlwyd does by itself.
	Unverified bool
}

// Glewlwyd is Debian's OpenID provider of that name, on SQLite, written in C by other
// people than OP, with habits of its own: its pages are one script, it asks for consent
// with a tick for each scope, access tokens are signed, and its issuer has a path.
type Glewlwyd struct {
	Issuer   string
	Address  string // host:port it listens on
	ClientID string
	Secret   string // of the client; it is sent as HTTP Basic
	People   []Person
	Dir      string

	process *Process
}

// glewlwydPlugin names the provider inside glewlwyd, and ends its issuer.
const glewlwydPlugin = "oidc"

// OtherClient is another program whose people sign in there.
const OtherClient = "elsewhere"

// StartGlewlwyd starts it and tells it of its people and its client; about a second.
func StartGlewlwyd(ctx context.Context, o GlewlwydOptions) (*Glewlwyd, error) {
	if len(o.People) == 0 {
		o.People = []Person{Alice(), Bob()}
	}
	g, err := startRetry(func() (*Glewlwyd, error) { return startGlewlwyd(ctx, o) })
	if err != nil {
		return nil, fmt.Errorf("start glewlwyd: %w", err)
	}
	return g, nil
}

func startGlewlwyd(ctx context.Context, o GlewlwydOptions) (*Glewlwyd, error) {
	files, err := unpackedFolder("glewlwyd")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	g := &Glewlwyd{
		Address: loopback(ports[0]), Issuer: "http://" + loopback(ports[0]) + "/api/" + glewlwydPlugin,
		ClientID: "letterlockd", Secret: ClientSecret, People: o.People,
	}
	if g.Dir, err = newFolder("glewlwyd"); err != nil {
		return nil, err
	}
	if err := g.start(ctx, files, ports[0], o); err != nil {
		g.Stop()
		return nil, err
	}
	return g, nil
}

func (g *Glewlwyd) start(ctx context.Context, files string, port int, o GlewlwydOptions) error {
	if err := errors.Join(g.writeConfig(files, port), g.writePages(), g.writeDatabase(ctx, files)); err != nil {
		return err
	}
	var err error
	g.process, err = StartProcess(ProcessOptions{
		Name: "glewlwyd", Path: filepath.Join(files, "usr/bin/glewlwyd"), Args: []string{"-c", g.file("glewlwyd.conf")}, Dir: g.Dir, Env: os.Environ(),
	})
	if err != nil {
		return err
	}
	if err := waitPort(ctx, port, g.process); err != nil {
		if strings.Contains(g.process.tail(20), "Error starting glewlwyd webservice") {
			return errPortTaken
		}
		return err
	}
	return g.fill(ctx, o)
}

func (g *Glewlwyd) file(name string) string { return filepath.Join(g.Dir, name) }

func (g *Glewlwyd) writeConfig(files string, port int) error {
	lib := filepath.Join(files, "usr/lib/glewlwyd")
	var types strings.Builder
	for ext, mime := range map[string]string{".html": "text/html", ".css": "text/css", ".js": "application/javascript", ".json": "application/json", ".woff2": "font/woff2", ".ico": "image/x-icon", ".png": "image/png"} {
		if types.Len() > 0 {
			types.WriteString(",\n")
		}
		fmt.Fprintf(&types, "  { extension = %q; mime_type = %q; compress = 0 }", ext, mime)
	}
	return os.WriteFile(g.file("glewlwyd.conf"), fmt.Appendf(nil, `port = %d
bind_address = "127.0.0.1"
external_url = "http://%s"
login_url = "login.html"
api_prefix = "api"
static_files_path = "%s"
static_files_mime_types = (
%s
)
log_mode = "console"
log_level = "INFO"
cookie_domain = "127.0.0.1"
cookie_secure = 0
cookie_same_site = "lax"
session_key = "GLEWLWYD2_SESSION_ID"
admin_session_authentication = "cookie"
hash_algorithm = "SHA512"
user_module_path = "%[5]s/user"
user_middleware_module_path = "%[5]s/user_middleware"
client_module_path = "%[5]s/client"
user_auth_scheme_module_path = "%[5]s/scheme"
plugin_module_path = "%[5]s/plugin"
database = { type = "sqlite3"; path = "%[6]s" };
`, port, g.Address, g.file("pages"), types.String(), lib, g.file("glewlwyd.db")), 0o600)
}

// writePages copies the sign-in page of glewlwyd-common. Debian's own config.json is a
// folder by mistake, with the file in it, so that the package's page waits for ever; and
// glewlwyd serves no file that a link leads to outside.
func (g *Glewlwyd) writePages() error {
	const source = "/usr/share/glewlwyd/webapp"
	if _, err := os.Stat(source + "/login.html"); err != nil {
		return &Missing{Program: "glewlwyd's sign-in page", Package: "glewlwyd-common"}
	}
	conf, err := os.ReadFile("/etc/glewlwyd/config-2.7.json/config.json")
	if err != nil {
		return &Missing{Program: "glewlwyd's config.json", Package: "glewlwyd-common"}
	}
	pages := g.file("pages")
	for _, part := range []string{"login.html", "login.js", "css", "js", "fonts", "img", "locales"} {
		err := filepath.WalkDir(filepath.Join(source, part), func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			to := filepath.Join(pages, strings.TrimPrefix(path, source))
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				data, err := os.ReadFile(path)
				return errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, data, 0o600))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(pages, "config.json"), conf, 0o600)
}

func (g *Glewlwyd) writeDatabase(ctx context.Context, files string) error {
	path, err := find("sqlite3", "sqlite3")
	if err != nil {
		return err
	}
	schema, err := os.Open(filepath.Join(files, "usr/share/dbconfig-common/data/glewlwyd/install/sqlite3"))
	if err != nil {
		return err
	}
	defer schema.Close()
	cmd := exec.CommandContext(ctx, path, "-bail", g.file("glewlwyd.db"))
	// One transaction: a statement by itself costs an fsync.
	cmd.Stdin = io.MultiReader(strings.NewReader("BEGIN;\n"), schema, strings.NewReader("\nCOMMIT;\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sqlite3: %w: %s", err, out)
	}
	return nil
}

// fill does over its REST interface what an administrator does in its pages.
func (g *Glewlwyd) fill(ctx context.Context, o GlewlwydOptions) error {
	admin, err := g.signedIn(ctx, "admin", "password") // as Debian's schema makes it
	if err != nil {
		return err
	}
	var module map[string]any
	if err := admin.call(ctx, http.MethodGet, "mod/user/database", nil, &module); err != nil {
		return err
	}
	// A property of people that the administrator writes, and they themselves do not.
	parameters, ok := module["parameters"].(map[string]any)
	if !ok {
		return fmt.Errorf("user module without parameters: %v", module)
	}
	parameters["data-format"] = map[string]any{"email_verified": map[string]any{"multiple": false, "read": true, "write": true, "profile-read": true, "profile-write": false}}
	plugin, err := g.plugin(o)
	if err != nil {
		return err
	}
	type step struct {
		method, path string
		body         map[string]any
	}
	steps := []step{
		{http.MethodPut, "mod/user/database", module},
		{http.MethodPut, "mod/user/database/reset", nil},
		{http.MethodPost, "mod/plugin/", plugin},
	}
	for _, scope := range []string{"email", "profile"} {
		steps = append(steps, step{http.MethodPost, "scope/", map[string]any{"name": scope, "display_name": scope, "password_required": true, "password_max_age": 0, "scheme": map[string]any{}}})
	}
	for _, who := range o.People {
		steps = append(steps, step{http.MethodPost, "user/", map[string]any{
			"username": who.Name, "name": who.Name, "password": who.Password, "email": who.Email, "email_verified": "true",
			"enabled": true, "scope": []string{"openid", "email", "profile", "g_profile"},
		}})
	}
	client := g.client(g.ClientID, "Letterlock", o.RedirectURIs...)
	if o.Backchannel != "" {
		client["backchannel_logout_uri"] = o.Backchannel
		client["backchannel_logout_session_required"] = "true"
	}
	steps = append(steps, step{http.MethodPost, "client/", client})
	if o.Elsewhere != "" {
		steps = append(steps, step{http.MethodPost, "client/", g.client(OtherClient, "Elsewhere", o.Elsewhere)})
	}
	for _, s := range steps {
		if err := admin.call(ctx, s.method, s.path, s.body, nil); err != nil {
			return err
		}
	}
	return nil
}

func (g *Glewlwyd) client(id, name string, redirects ...string) map[string]any {
	return map[string]any{
		"client_id": id, "name": name, "enabled": true, "confidential": true, "client_secret": g.Secret,
		"authorization_type": []string{"code", "refresh_token"}, "redirect_uri": redirects, "scope": []string{},
		"token_endpoint_auth_method": []string{"client_secret_basic"},
	}
}

// plugin is the OpenID provider's own settings.
func (g *Glewlwyd) plugin(o GlewlwydOptions) (map[string]any, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	claims := []any{}
	if !o.Unverified {
		claims = append(claims, map[string]any{
			"name": "email_verified", "user-property": "email_verified", "type": "boolean", "boolean-value-true": "true", "boolean-value-false": "false",
			"mandatory": false, "on-demand": true, "scope": []string{"email"},
		})
	}
	return map[string]any{
		"module": "oidc", "name": glewlwydPlugin, "display_name": "OpenID Connect", "enabled": true,
		"parameters": map[string]any{
			"iss": g.Issuer, "jwt-type": "rsa", "jwt-key-size": "256", "jwks-show": true,
			"key":                   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
			"cert":                  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
			"access-token-duration": 3600, "refresh-token-duration": 1209600, "code-duration": 60, "refresh-token-rolling": true, "refresh-token-one-use": "always",
			"allow-non-oidc": false, "auth-type-code-enabled": true, "auth-type-code-revoke-replayed": true, "auth-type-token-enabled": false, "auth-type-id-token-enabled": false,
			"auth-type-none-enabled": false, "auth-type-password-enabled": false, "auth-type-client-enabled": false, "auth-type-device-enabled": false, "auth-type-refresh-enabled": true,
			"subject-type": "public", "oauth-as-iss-id": true, "allowed-scope": []string{"openid", "email", "profile"},
			"pkce-allowed": true, "pkce-method-plain-allowed": false, "pkce-required": true,
			"claims": claims,
			// For whom the scope was granted, as OpenID Connect Core section 5.4 has it.
			"name-claim": "on-demand", "name-claim-scope": []string{"profile"}, "email-claim": "on-demand", "email-claim-scope": []string{"email"},
			"request-parameter-allow": false, "introspection-revocation-allowed": false, "register-client-allowed": false,
			"session-management-allowed": true, "session-cookie-name": "GLEWLWYD2_OIDC_SID", "session-cookie-expiration": 2419200,
			// Without the front channel its log-out page goes no further, and nobody hears of it.
			"front-channel-logout-allowed": true, "back-channel-logout-allowed": true,
		},
	}, nil
}

// glewlwydSession is somebody signed in at its REST interface.
type glewlwydSession struct {
	base   string
	client *http.Client
}

func (g *Glewlwyd) signedIn(ctx context.Context, name, password string) (*glewlwydSession, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	s := &glewlwydSession{base: "http://" + g.Address + "/api/", client: &http.Client{Jar: jar, Timeout: 5 * time.Minute}}
	return s, s.call(ctx, http.MethodPost, "auth/", map[string]any{"username": name, "password": password}, nil)
}

func (s *glewlwydSession) call(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.500s", method, path, resp.Status, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// Stop ends it by its own id and removes its folder.
func (g *Glewlwyd) Stop() {
	if g.process != nil {
		g.process.Stop()
	}
	os.RemoveAll(g.Dir)
}

// Log returns what it said.
func (g *Glewlwyd) Log() []string { return g.process.Log() }

// RunGlewlwyd is StartGlewlwyd for a test.
func RunGlewlwyd(t TB, o GlewlwydOptions) *Glewlwyd {
	t.Helper()
	return run(t, "glewlwyd", func(ctx context.Context) (*Glewlwyd, error) { return StartGlewlwyd(ctx, o) })
}

// ChangeEmail is a person who signs in and writes another address into their profile.
func (g *Glewlwyd) ChangeEmail(ctx context.Context, who Person, email string) error {
	s, err := g.signedIn(ctx, who.Name, who.Password)
	if err != nil {
		return err
	}
	return s.call(ctx, http.MethodPut, "profile", map[string]any{"name": who.Name, "email": email, "email_verified": "true"}, nil)
}

// Email is the address that an administrator sees at a person.
func (g *Glewlwyd) Email(ctx context.Context, who Person) (string, error) {
	s, err := g.signedIn(ctx, "admin", "password")
	if err != nil {
		return "", err
	}
	var user struct{ Email string }
	err = s.call(ctx, http.MethodGet, "user/"+who.Name, nil, &user)
	return user.Email, err
}
