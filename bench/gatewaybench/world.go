package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// A page is what the upstream has.
type page struct {
	path string
	body []byte
}

// A peer is a server in front of the upstream.
type peer struct {
	name    string
	host    string // as a browser names it
	address string
	pid     int
	cookie  string // of the browser that is signed in; empty: nobody signs in there
	token   string // what the answer of /whoami begins with once somebody has
	proof   string
}

// plain is what a browser sends.
func (p *peer) plain(path, cookie string) string {
	text := "GET " + path + " HTTP/1.1\r\nHost: " + p.host + "\r\n"
	for _, field := range browserHeader() {
		text += field[0] + ": " + field[1] + "\r\n"
	}
	if cookie != "" {
		text += "Cookie: " + cookie + "\r\n"
	}
	return text + "\r\n"
}

// browserHeader is what Chromium says with each request of a page.
func browserHeader() [][2]string {
	return [][2]string{
		{"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
		{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
		{"Accept-Encoding", "gzip, deflate, br"},
		{"Accept-Language", "en-US,en;q=0.9"},
		{"Sec-Fetch-Dest", "document"},
		{"Sec-Fetch-Mode", "navigate"},
		{"Sec-Fetch-Site", "same-origin"},
		{"Upgrade-Insecure-Requests", "1"},
	}
}

// A world is the upstream, the provider and the three in front.
type world struct {
	o         order
	folder    string
	op        *lab.OP
	processes []*lab.Process
	peers     []*peer // the gateway is the first
	pages     []page
	versions  string

	upstream, pagesPort, gatePort, nginxPort, apachePort int
}

func newWorld(ctx context.Context, o order) (*world, error) {
	folder, err := os.MkdirTemp("", "letterlock-gatewaybench-")
	if err != nil {
		return nil, err
	}
	w := &world{o: o, folder: folder, pages: []page{
		{"/small.html", bytes.Repeat([]byte("<p>Nineteen baskets, apples.</p>"), 2048/32)},
		{"/large.html", bytes.Repeat([]byte("0123456789abcdef"), 1<<20/16)},
	}}
	ports, err := lab.FreePorts(5)
	if err != nil {
		return w, err
	}
	w.upstream, w.pagesPort, w.gatePort, w.nginxPort, w.apachePort = ports[0], ports[1], ports[2], ports[3], ports[4]
	if err := os.Chmod(folder, 0o755); err != nil { // workers run as www-data
		return w, err
	}
	for _, step := range []func(context.Context) error{w.startUpstream, w.startProvider, w.startGateway, w.startNginx, w.startApache, w.askVersions} {
		if err := step(ctx); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *world) close() error {
	for _, p := range w.processes {
		p.Stop()
	}
	if w.op != nil {
		w.op.Stop()
	}
	return os.RemoveAll(w.folder)
}

func (w *world) file(name string) string { return filepath.Join(w.folder, name) }

func (w *world) askVersions(ctx context.Context) error {
	for _, one := range [][]string{{"nginx", "-v"}, {"apache2", "-v"}, {"dpkg-query", "-W", "-f", "mod_auth_openidc ${Version}", "libapache2-mod-auth-openidc"}} {
		out, err := exec.CommandContext(ctx, one[0], one[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ask %s for its version: %w", one[0], err)
		}
		text, _, _ := strings.Cut(string(out), "\n")
		text = strings.TrimPrefix(strings.TrimPrefix(text, "nginx version: "), "Server version: ")
		w.versions += strings.TrimSpace(text) + ", "
	}
	w.versions = strings.TrimSuffix(w.versions, ", ")
	return nil
}

// start starts a server and waits until it listens.
func (w *world) start(ctx context.Context, port int, name string, args ...string) (*lab.Process, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	p, err := lab.StartProcess(lab.ProcessOptions{Name: name, Path: path, Args: args, Env: os.Environ()})
	if err != nil {
		return nil, err
	}
	w.processes = append(w.processes, p)
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", local(port))
		if err == nil {
			return p, conn.Close()
		}
		select {
		case <-p.Done():
			return nil, fmt.Errorf("%s ended: %s", name, strings.Join(p.Log(), "; "))
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func (w *world) startProvider(ctx context.Context) (err error) {
	w.op, err = lab.StartOP(ctx, lab.OPOptions{RedirectURIs: []string{
		fmt.Sprintf("http://%s/signin/campus/callback", local(w.pagesPort)), fmt.Sprintf("http://localhost:%d/__oidc", w.apachePort),
	}})
	return err
}

// signIn goes the whole way of somebody who opens an address with an empty browser, and
// returns the cookies that they have at its host in the end.
func (w *world) signIn(ctx context.Context, start string) (string, error) {
	b, err := newBrowser()
	if err != nil {
		return "", err
	}
	home, err := url.Parse(start)
	if err != nil {
		return "", err
	}
	at := home
	for range 30 {
		if at.Host == w.op.Address {
			if at, err = w.op.SignIn(ctx, at.String(), lab.Alice()); err != nil {
				return "", err
			}
		}
		status, next, body, err := b.get(ctx, at)
		switch {
		case err != nil:
			return "", err
		case next != nil:
			at = next
		case status == http.StatusOK && at.Host == home.Host && at.Path == home.Path:
			return b.cookies(home), nil
		default:
			return "", fmt.Errorf("sign in: %d at %s: %.300s", status, at.Redacted(), body)
		}
	}
	return "", errors.New("sign in: it never ended")
}

// check sees that a peer does its work: the pages come through byte for byte, with a token
// for the upstream, and not without the cookie.
func (w *world) check(ctx context.Context, p *peer) error {
	for _, page := range w.pages {
		status, body, err := fetch(ctx, p, page.path, p.cookie)
		if err != nil {
			return err
		}
		if status != http.StatusOK || !bytes.Equal(body, page.body) {
			return fmt.Errorf("%s: %d and %d bytes, want 200 and the page", page.path, status, len(body))
		}
	}
	_, who, err := fetch(ctx, p, "/whoami", p.cookie)
	if err != nil {
		return err
	}
	// A token is long; the answer without one is the two marks alone.
	if !strings.HasPrefix(string(who), p.token) || (len(who) > 30) != (p.cookie != "") {
		return fmt.Errorf("the upstream sees %q", who)
	}
	if p.cookie == "" {
		p.proof = "both pages come through; nobody signs in"
		return nil
	}
	status, body, err := fetch(ctx, p, w.pages[0].path, "")
	if err != nil {
		return err
	}
	if status != http.StatusSeeOther && status != http.StatusFound || bytes.Contains(body, w.pages[0].body[:32]) {
		return fmt.Errorf("without the cookie: %d", status)
	}
	p.proof = fmt.Sprintf("signed in, both pages and a token come through; without the cookie %d", status)
	return nil
}
