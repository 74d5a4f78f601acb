package mtasts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// Options shape a Cache.
type Options struct {
	// TXT looks a name up; no record at all is no error. Required.
	TXT func(ctx context.Context, name string) ([]string, error)
	// HTTP fetches policies. It must check certificates and follow no redirect (RFC
	// 8461 section 3.3). Required.
	HTTP *http.Client
	// Folder keeps policies over a restart; empty: memory only.
	Folder string
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil discards
}

// A Cache finds policies and keeps them for as long as they ask to be kept. One that it
// goes on using it fetches again each day, so that it does not end in the very hour in
// which somebody keeps it from being fetched (RFC 8461 section 10.2). It is safe for
// concurrent use; Close it at the end.
type Cache struct {
	options Options
	mu      sync.Mutex
	entries map[string]*entry

	fetching sync.WaitGroup // of policies that are kept
	closed   chan struct{}
	slots    chan struct{} // a token for each such fetch
}

// An entry is what is known of a domain. Its lock is held while it is fetched, so that
// a burst of mail to one domain fetches once.
type entry struct {
	mu      sync.Mutex
	policy  *Policy
	expires time.Time // of the policy
	fetched time.Time // when it was last fetched
	checked time.Time // when DNS was last asked
	tried   time.Time // when it was last to be fetched again
	loaded  bool      // the folder has been looked into
}

// recheck is how long an answer of DNS, or a failure to fetch, holds: RFC 8461 section
// 3.3 asks for a pause of five minutes or more after a failure.
const recheck = 10 * time.Minute

// How old a kept policy may be before it is fetched again (RFC 8461 section 10.2 suggests
// a day), how soon after a failure, how many at a time, and how long Close waits for
// those under way.
const (
	refreshAge   = 24 * time.Hour
	refreshPause = time.Hour
	refreshes    = 4
	closeTime    = 5 * time.Second
)

// maxEntries bounds the memory: beyond it all is forgotten, the folder keeps it.
const maxEntries = 10_000

// fetchTime bounds a fetch (RFC 8461 section 3.3 suggests a minute).
const fetchTime = time.Minute

// NewCache returns a Cache.
func NewCache(o Options) *Cache {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Cache{options: o, entries: map[string]*entry{}, closed: make(chan struct{}), slots: make(chan struct{}, refreshes)}
}

// Close ends what is being fetched, after a moment in which it may end by itself: a
// process that sends one message and ends shall refresh policies too. Nobody may ask for
// a policy any more.
func (c *Cache) Close() {
	over := sync.OnceFunc(func() { close(c.closed) })
	timer := time.AfterFunc(closeTime, over)
	defer timer.Stop()
	c.fetching.Wait()
	over()
}

// Policy returns the policy to apply to mail for domain, nil when there is none. An
// error means that a policy is announced and not to be had, and none is kept.
func (c *Cache) Policy(ctx context.Context, domain string) (*Policy, error) {
	e := c.entry(domain)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.loaded {
		e.loaded = true
		c.load(domain, e)
	}
	now := c.options.Now()
	if e.policy != nil && !now.Before(e.expires) {
		e.policy = nil
	}
	if now.Sub(e.checked) < recheck {
		return e.policy, nil
	}
	id, err := c.announced(ctx, domain)
	if err != nil || id == "" || e.policy != nil && e.policy.ID == id {
		e.checked = now
		if id != "" || err != nil {
			c.refresh(ctx, domain, e, now)
		}
		// RFC 8461 section 3.1: a record that is gone, or cannot be asked for, does not
		// end a kept policy: that would be the attack itself.
		return e.policy, errUnless(e.policy, err)
	}
	policy, err := c.fetch(ctx, domain)
	if ctx.Err() != nil {
		return e.policy, errUnless(e.policy, err) // not the domain's fault: ask again
	}
	e.checked = now
	if err != nil {
		return e.policy, errUnless(e.policy, err)
	}
	policy.ID = id
	e.keep(policy, now)
	return policy, c.save(domain, e)
}

func (e *entry) keep(policy *Policy, now time.Time) {
	e.policy, e.fetched, e.expires = policy, now, now.Add(policy.MaxAge)
}

// refresh fetches a kept policy again, once a day and beside the attempt that asked for
// it, which it outlives. Whatever goes wrong, the kept one holds until its end. A domain
// that has taken its record back is left alone: its policy runs out.
func (c *Cache) refresh(ctx context.Context, domain string, e *entry, now time.Time) {
	if e.policy == nil || now.Sub(e.fetched) < refreshAge || now.Sub(e.tried) < refreshPause {
		return
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return // at the next attempt
	}
	e.tried = now
	kept := e.policy
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.fetching.Go(func() {
		select {
		case <-c.closed:
			cancel()
		case <-ctx.Done():
		}
	})
	c.fetching.Go(func() {
		defer func() { <-c.slots }()
		defer cancel()
		policy, err := c.fetch(ctx, domain)
		if err != nil {
			if kept.Mode != None { // RFC 8461 section 10.2: the log is for administrators
				c.options.Log.Warn("MTA-STS policy cannot be fetched again, the kept one holds", "domain", domain, "error", err.Error())
			}
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.policy != kept {
			return // a new one has come meanwhile
		}
		policy.ID = kept.ID
		e.keep(policy, c.options.Now())
		if err := c.save(domain, e); err != nil {
			c.options.Log.Warn("MTA-STS policy is kept in memory only", "domain", domain, "error", err.Error())
		}
	})
}

func errUnless(kept *Policy, err error) error {
	if kept != nil {
		return nil
	}
	return err
}

func (c *Cache) entry(domain string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[domain]
	if e == nil {
		if len(c.entries) >= maxEntries {
			clear(c.entries)
		}
		e = &entry{}
		c.entries[domain] = e
	}
	return e
}

// announced returns the id of the domain's record, empty without one.
func (c *Cache) announced(ctx context.Context, domain string) (string, error) {
	records, err := c.options.TXT(ctx, "_mta-sts."+domain)
	if err != nil {
		return "", fmt.Errorf("look up _mta-sts.%s: %w", domain, err)
	}
	found := ""
	for _, record := range records {
		id, ok, err := ParseRecord(record)
		switch {
		case !ok:
			continue
		case err != nil:
			return "", err
		case found != "":
			return "", nil // RFC 8461 section 3.1: more than one is none
		}
		found = id
	}
	return found, nil
}

func (c *Cache) fetch(ctx context.Context, domain string) (*Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return nil, fmt.Errorf("fetch policy: %w", err)
	}
	response, err := c.options.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetch policy: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch policy: %w: status %d", ErrPolicy, response.StatusCode)
	}
	// RFC 8461 section 3.2: text/plain, against hosts where users may put files.
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return nil, fmt.Errorf("fetch policy: %w: not text/plain", ErrPolicy)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, MaxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("fetch policy: %w", err)
	}
	return ParsePolicy(text)
}

// kept is an entry on disk.
type kept struct {
	Version int
	Domain  string
	ID      string
	Mode    Mode
	MX      []string
	Expires time.Time
	Fetched time.Time
}

// file names an entry by a hash: a domain comes from an address, and no part of one
// shall be a path.
func (c *Cache) file(domain string) string {
	sum := sha256.Sum256([]byte(domain))
	return filepath.Join(c.options.Folder, hex.EncodeToString(sum[:16])+".json")
}

// load reads an entry. One that cannot be read is as good as none.
func (c *Cache) load(domain string, e *entry) {
	if c.options.Folder == "" {
		return
	}
	text, err := atomicfile.Read(c.file(domain), MaxPolicy*2)
	if err != nil {
		return
	}
	var k kept
	if json.Unmarshal(text, &k) != nil || k.Version != 1 || k.Domain != domain || k.Mode != Enforce && k.Mode != Testing && k.Mode != None {
		return
	}
	e.policy, e.fetched = &Policy{ID: k.ID, Mode: k.Mode, MX: k.MX}, k.Fetched
	// A clock that was wrong once must not keep a policy for ever.
	now := c.options.Now()
	if e.expires = k.Expires; e.expires.Sub(now) > maxAge {
		e.expires = now.Add(maxAge)
	}
	if e.fetched.After(now) {
		e.fetched = time.Time{} // and nobody knows when it was
	}
}

func (c *Cache) save(domain string, e *entry) error {
	if c.options.Folder == "" {
		return nil
	}
	text, err := json.Marshal(kept{Version: 1, Domain: domain, ID: e.policy.ID, Mode: e.policy.Mode, MX: e.policy.MX, Expires: e.expires, Fetched: e.fetched})
	if err == nil {
		err = atomicfile.PrivateFolder(c.options.Folder)
	}
	if err == nil {
		err = atomicfile.Write(c.file(domain), text, 0o600)
	}
	if errors.Is(err, atomicfile.ErrUnsynced) {
		err = nil // after a power cut it is fetched again
	}
	if err != nil {
		return fmt.Errorf("keep MTA-STS policy: %w", err)
	}
	return nil
}
