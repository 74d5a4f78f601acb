//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/client/tokenstore"
	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/lab/fakeidp"
)

// A world is an internet that has nothing in it but the strict fakes of Google and
// Microsoft, under their own names, and a person at a browser. The unmodified binary
// reaches it by HTTPS_PROXY and --ca-file and speaks to the built-in endpoints.
type world struct {
	t    *testing.T
	ca   *lab.CA
	net  *lab.Internet
	idps []fakeidp.Provider

	mu      sync.Mutex
	ahead   time.Duration                                 // of the providers' clock before ours
	between func(*http.Request)                           // changes requests on their way to a provider
	instead func(http.ResponseWriter, *http.Request) bool // answers in its place
}

// newWorld puts the fakes that make returns onto the internet.
func newWorld(t *testing.T, make func(clock func() time.Time) []fakeidp.Provider) *world {
	t.Helper()
	w := &world{t: t, ca: lab.RunCA(t), net: lab.RunInternet(t)}
	w.idps = make(w.clock)
	var hosts []string
	for _, idp := range w.idps {
		hosts = append(hosts, idp.Hosts()...)
	}
	config, err := w.ca.Server(hosts...)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts {
		w.net.Map(host, listener.Addr().String())
	}
	server := &http.Server{Handler: w, ReadHeaderTimeout: patience}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // ends with Close
	t.Cleanup(func() { server.Close(); serving.Wait() })
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

// pass moves the providers' clock.
func (w *world) pass(span time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += span
}

// calm takes back what a test did to clock and connections.
func (w *world) calm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead, w.between, w.instead = 0, nil, nil
}

// ServeHTTP implements http.Handler: whoever is asked for answers.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	between, instead := w.between, w.instead
	w.mu.Unlock()
	if instead != nil && instead(rw, r) {
		return
	}
	if between != nil {
		between(r)
	}
	host, _, _ := strings.Cut(r.Host, ":")
	for _, idp := range w.idps {
		if slices.Contains(idp.Hosts(), host) {
			idp.ServeHTTP(rw, r)
			return
		}
	}
	http.NotFound(rw, r)
}

// person makes a home whose only way out is this world.
func (w *world) person(t *testing.T, env ...string) *home {
	return newHome(t, append(w.net.Env(), env...)...)
}

// visit opens an address in a browser. It returns where the provider sent the browser,
// or the page that it showed.
func (w *world) visit(address string) (back, page string) {
	w.t.Helper()
	proxy, err := url.Parse(w.net.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: w.ca.Client(), DisableKeepAlives: true}
	client := http.Client{Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(address)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if back = resp.Header.Get("Location"); back != "" {
		return back, ""
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return "", string(text)
}

// An attempt is a sign-in that has ended.
type attempt struct {
	result
	address string // that was to be opened
	page    string // that the provider showed instead of sending the browser back
	back    string // where the provider sent the browser
}

// A visitor is who sits at the browser during one sign-in.
type visitor struct {
	*attempt
	w      *world
	h      *home
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	paste  bool
	device func() // what the person does with a device code
}

// login runs letterlock login with a person who opens the address it prints: with
// --flow paste the person copies back where that led, else the browser goes there. A
// person who sees an error page gives up. device is for --flow device.
func (w *world) login(h *home, device func(), args ...string) *attempt {
	w.t.Helper()
	args = append([]string{"login", "--ca-file", w.ca.File, "--key", "file", "--no-browser"}, args...)
	v := visitor{attempt: &attempt{}, w: w, h: h, cmd: h.command(within(h.t), "letterlock", args...), device: device,
		paste: slices.Contains(args, "paste")}
	var stdout bytes.Buffer
	v.cmd.Stdout = &stdout
	stdin, err := v.cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	v.stdin = stdin
	stderr, err := v.cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	for lines := bufio.NewReader(stderr); err == nil; {
		var line string
		line, err = lines.ReadString('\n')
		v.stderr += line
		v.reads(line)
	}
	_ = v.cmd.Wait() // the exit code tells
	v.stdout, v.code = stdout.String(), v.cmd.ProcessState.ExitCode()
	return v.attempt
}

// reads is what the person does about a line on the terminal.
func (v *visitor) reads(line string) {
	switch {
	case strings.HasPrefix(line, "signing in by paste"):
		v.paste = true
	case v.address == "" && strings.HasPrefix(line, "https://"):
		v.address = strings.TrimSpace(line)
		v.opens()
	case v.device != nil && strings.HasPrefix(line, "open https://"):
		v.address = strings.Fields(line)[1]
	case v.device != nil && v.address != "" && strings.HasPrefix(line, "    "):
		v.device()
		v.device = nil
	}
}

func (v *visitor) opens() {
	v.h.t.Helper()
	var err error
	v.back, v.page = v.w.visit(v.address)
	switch {
	case v.page == "" && !v.paste:
		follow(v.h.t, v.back)
	case v.page == "":
		_, err = io.WriteString(v.stdin, v.back+"\n")
		err = errors.Join(err, v.stdin.Close())
	case v.paste:
		err = v.stdin.Close()
	default:
		err = v.cmd.Process.Signal(os.Interrupt)
	}
	if err != nil {
		v.h.t.Fatal(err)
	}
}

// follow is the browser arriving at the loopback listener.
func follow(t testing.TB, address string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the listener answers %s", resp.Status)
	}
}

// rewrite changes the query of a GET or the form of a POST on its way.
func rewrite(r *http.Request, change func(url.Values)) {
	if r.Method == http.MethodGet {
		q := r.URL.Query()
		change(q)
		r.URL.RawQuery = q.Encode()
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return
	}
	change(form)
	r.Body = io.NopCloser(strings.NewReader(form.Encode()))
}

// grantFile is the encrypted grant, nil when there is none.
func (h *home) grantFile(name string) []byte {
	h.t.Helper()
	data, err := os.ReadFile(h.path(".local/state/letterlock/grants/" + name + ".age"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	return data
}

// store opens the grants of a home, with the rooms that the binary has too.
func (h *home) store() *account.Manager {
	h.t.Helper()
	store, err := tokenstore.Open(h.path(".local/state/letterlock/grants"))
	if err != nil {
		h.t.Fatal(err)
	}
	keys := tokenstore.NewFile(h.path(".local/state/letterlock/keys"))
	return &account.Manager{Store: account.OnDisk(store), Keys: func(string) (tokenstore.Keys, error) { return keys, nil }}
}

func (h *home) grant(name string) *account.Grant {
	h.t.Helper()
	grant, err := h.store().Grant(within(h.t), name)
	if err != nil {
		h.t.Fatal(err)
	}
	return grant
}

// age makes a grant look as if the person had signed in, and the last refresh had
// been, that long ago. The binary goes by the real clock.
func (h *home) age(name string, span time.Duration) {
	h.t.Helper()
	grant := h.grant(name)
	for resource := range grant.Access {
		delete(grant.Access, resource)
	}
	grant.SignedIn = grant.SignedIn.Add(-span)
	if !grant.Refreshed.IsZero() {
		grant.Refreshed = grant.Refreshed.Add(-span)
	}
	if err := h.store().Save(within(h.t), grant); err != nil {
		h.t.Fatal(err)
	}
}

// expire makes the access tokens of a grant run out: a later call has to refresh.
func (h *home) expire(name string) {
	h.t.Helper()
	grant := h.grant(name)
	for resource, access := range grant.Access {
		access.Issued, access.Expiry = access.Issued.Add(-2*time.Hour), access.Expiry.Add(-2*time.Hour)
		grant.Access[resource] = access
	}
	if err := h.store().Save(within(h.t), grant); err != nil {
		h.t.Fatal(err)
	}
}

// says checks exit code and texts of a command that failed: nothing on standard output,
// one line what and one line what to do.
func (r result) says(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code || r.stdout != "" {
		t.Errorf("wanted exit %d and nothing on stdout: %v", code, r)
	}
	if !strings.Contains(r.stderr, "\nletterlock: hint: ") {
		t.Errorf("no hint: %v", r)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("%q is not in: %v", text, r)
		}
	}
}
