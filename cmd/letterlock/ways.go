package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/client/account"
	"github.com/letterlock-mail/letterlock/internal/config"
	"github.com/letterlock-mail/letterlock/internal/mail/delivery"
	"github.com/letterlock-mail/letterlock/internal/mail/domain"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/mtasts"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// ways are the accounts' ways out. Those without a sign-in are made once: what they
// know of others' policies is theirs.
type ways struct {
	p        *program
	manager  *account.Manager
	resolver delivery.Resolver

	mu   sync.Mutex
	made map[string]delivery.Route
}

// route is what delivery asks for each envelope.
func (w *ways) route(name string) (delivery.Route, error) {
	conf, err := w.p.config()
	if err != nil {
		return delivery.Route{}, err
	}
	a, ok := conf.Accounts[name]
	if !ok || a.Granted() {
		return w.p.route(w.manager, name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r, ok := w.made[name]; ok {
		return r, nil
	}
	r, err := w.ungranted(name, a)
	if err != nil {
		return delivery.Route{}, fmt.Errorf("%w: %w", delivery.ErrRoute, err)
	}
	if w.made == nil {
		w.made = map[string]delivery.Route{}
	}
	w.made[name] = r
	return r, nil
}

// close waits for what the ways do beside an attempt.
func (w *ways) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.made {
		if policies, ok := r.Policies.(*mtasts.Cache); ok {
			policies.Close()
		}
	}
}

// ungranted is a way that needs nobody's leave.
func (w *ways) ungranted(name string, a config.Account) (delivery.Route, error) {
	local := delivery.Route{Way: delivery.LMTP, Socket: a.LMTP}
	if a.Maildir != "" {
		local = delivery.Route{Way: delivery.Maildir, Folder: mailboxes(a.Maildir)}
	}
	if a.Way != "direct" {
		return local, nil
	}
	roots, err := readRoots(a.CAFile)
	if err != nil {
		return delivery.Route{}, err
	}
	paths, err := w.p.where()
	if err != nil {
		return delivery.Route{}, err
	}
	r := delivery.Route{
		Way: delivery.Direct, Hello: a.Hello, LocalDomains: a.LocalDomains, AllowPrivate: a.Private,
		TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	if a.LMTP != "" || a.Maildir != "" {
		r.Local = &local
	}
	if !a.NoMTASTS {
		dial := delivery.DialPublic(w.resolver, nil)
		if a.Private {
			dial = nil
		}
		r.Policies = mtasts.NewCache(mtasts.Options{
			TXT: delivery.Records(w.resolver), HTTP: mtasts.NewClient(roots, dial), Folder: filepath.Join(paths.State, "mta-sts"), Now: w.p.now, Log: w.p.log(),
		})
	}
	signer, err := w.p.signer(name, a)
	if err != nil {
		return delivery.Route{}, err
	}
	r.Sign = signer.sign
	return r, nil
}

func noToken(name string, a config.Account) error {
	return cli.Faultf(cli.Usage, "letterlock test "+shellWord(name)+" tries that way", "%s needs no sign-in and has no token: its mail leaves by way = \"%s\"", name, a.Way)
}

// destination says which mail waits for which: that to one domain only for itself, so
// that servers which hang keep nothing else back. A message to several domains goes out
// in one piece, and delivery serves them side by side.
func (p *program) destination(e queue.Envelope, _ queue.Recipient) string {
	conf, err := p.config()
	if err != nil || conf.Accounts[e.Account].Way != "direct" {
		return e.Account
	}
	one := ""
	for i, to := range e.To {
		_, host, _ := strings.Cut(to.Address, "@")
		if host = strings.ToLower(host); i > 0 && host != one {
			return e.Account + "\x00"
		}
		one = host
	}
	return e.Account + "\x00" + one
}

// A signer signs as the domain of From, for that is what DMARC compares; where that has
// no keys, as the account's own.
type signer struct {
	folder string
	own    string // the account's domain
	must   bool   // nothing goes out unsigned
}

func (p *program) signer(name string, a config.Account) (signer, error) {
	s := signer{folder: a.DKIMKeys, must: a.DKIMKeys != ""}
	if !s.must {
		paths, err := p.where()
		if err != nil {
			return s, err
		}
		s.folder = filepath.Join(paths.State, "dkim") // where letterlock dkim keeps them
	}
	_, s.own, _ = strings.Cut(wayOf(name, a).Address, "@")
	return s, nil
}

// sign is delivery's Route.Sign.
func (s signer) sign(r io.Reader) ([]byte, error) {
	from := bufio.NewReaderSize(r, 32<<10)
	head, err := readHead(from)
	if err != nil {
		return nil, err
	}
	keys, err := s.keys(authorDomain(head))
	switch {
	case errors.Is(err, domain.ErrNoKeys) && !s.must:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return keys.Sign(io.MultiReader(bytes.NewReader(head), from))
}

func (s signer) keys(author string) (*domain.Keys, error) {
	if author != "" && !strings.EqualFold(author, s.own) {
		if keys, err := domain.OpenKeys(s.folder, author); !errors.Is(err, domain.ErrNoKeys) {
			return keys, err
		}
	}
	return domain.OpenKeys(s.folder, s.own)
}

// maxHead is the largest header that is looked into; message.Read has taken no larger.
const maxHead = 16 << 20

// readHead reads up to the empty line, that included.
func readHead(from *bufio.Reader) ([]byte, error) {
	var head []byte
	for atStart := true; ; {
		part, err := from.ReadSlice('\n')
		head = append(head, part...)
		switch {
		case errors.Is(err, io.EOF), atStart && (string(part) == "\r\n" || string(part) == "\n"):
			return head, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(head) > maxHead:
			return nil, message.ErrTooLarge
		}
		atStart = err == nil
	}
}

// authorDomain is the domain of the first address of From.
func authorDomain(head []byte) string {
	m, err := message.Read(bytes.NewReader(head), message.Limits{})
	if err != nil {
		return ""
	}
	defer m.Close()
	authors, err := message.ParseAddresses(m.Get("From"))
	if err != nil || len(authors) == 0 {
		return ""
	}
	return authors[0][strings.LastIndexByte(authors[0], '@')+1:]
}

// mailboxes is a delivery.Route.Folder: pattern with the parts of the address put in.
// What stands up to the last of them must be there; so a pattern in which {local} names
// a home knows who has one.
func mailboxes(pattern string) func(recipient string) (string, error) {
	return func(recipient string) (string, error) {
		local, host := recipient, ""
		if at := strings.LastIndexByte(recipient, '@'); at >= 0 {
			local, host = recipient[:at], recipient[at+1:]
		}
		local, host = strings.ToLower(local), strings.ToLower(host)
		if strings.Contains(pattern, "{local}") && !isFolderName(local) || strings.Contains(pattern, "{domain}") && !isFolderName(host) {
			return "", fmt.Errorf("%w: %s", delivery.ErrNoMailbox, cli.Line(recipient))
		}
		fill := strings.NewReplacer("{local}", local, "{domain}", host)
		folder := fill.Replace(pattern)
		if known := knownPart(pattern); known != "" {
			info, err := os.Stat(fill.Replace(known))
			switch {
			case errors.Is(err, os.ErrNotExist), err == nil && !info.IsDir():
				return "", fmt.Errorf("%w: %s", delivery.ErrNoMailbox, cli.Line(recipient))
			case err != nil:
				return "", err
			}
		}
		return folder, checkMailboxOwner(folder)
	}
}

// knownPart is the pattern up to the path element of its last brace.
func knownPart(pattern string) string {
	last := strings.LastIndexByte(pattern, '}')
	if last < 0 {
		return ""
	}
	if end := strings.IndexByte(pattern[last:], '/'); end >= 0 {
		return pattern[:last+end]
	}
	return pattern
}

// isFolderName takes what can be one path element and nothing else, on every system.
func isFolderName(s string) bool {
	return s != "" && len(s) <= 200 && s[0] != '.' && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._+-", r))
	})
}
