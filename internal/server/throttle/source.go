package throttle

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/letterlock-mail/letterlock/internal/atomicfile"
)

// A Source is where a list comes from: a file, or an address that is asked now and then.
// What cannot be read leaves the list as it was.
type Source struct {
	Name  string
	File  string
	URL   string // https; http only on this host
	Allow bool
	Every time.Duration // (a minute for files, an hour for addresses; not less for these)
}

const (
	fetchTimeout = time.Minute
	redirects    = 3
)

// Check reports what is wrong with a source, before it is used.
func (s Source) Check() error {
	if s.Name == "" || (s.File == "") == (s.URL == "") {
		return errors.New("a list has a name, and a file or an address")
	}
	if s.File != "" {
		return nil
	}
	u, err := url.Parse(s.URL)
	if err != nil || !fetchable(u) {
		return fmt.Errorf("list %s: want an https address", s.Name)
	}
	return nil
}

func fetchable(u *url.URL) bool {
	if u.Host == "" || u.User != nil {
		return false
	}
	local := u.Hostname() == "127.0.0.1" || u.Hostname() == "::1"
	return u.Scheme == "https" || u.Scheme == "http" && local
}

// listClient follows few redirects, and none away from https.
func listClient() *http.Client {
	return &http.Client{Timeout: fetchTimeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > redirects || !fetchable(r.URL) {
			return errors.New("redirected elsewhere")
		}
		return nil
	}}
}

// Load reads the list of a source.
func (s Source) Load(ctx context.Context, client *http.Client) (*List, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	list, err := s.load(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", s.Name, err)
	}
	list.Allow = s.Allow
	return list, nil
}

func (s Source) load(ctx context.Context, client *http.Client) (*List, error) {
	if s.File != "" {
		file, err := atomicfile.OpenRegular(s.File)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return ParseList(s.Name, file)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, errors.New("address not understood")
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", answer.StatusCode)
	}
	return ParseList(s.Name, answer.Body)
}

func (s Source) every() time.Duration {
	if s.URL != "" {
		return max(s.Every, time.Hour)
	}
	if s.Every <= 0 {
		return time.Minute
	}
	return s.Every
}

// loadAll reads all files once, so that they hold from the first sign-in on. Addresses
// come a little later: nothing waits for somebody else's server.
func (t *Throttle) loadAll(ctx context.Context) {
	for _, s := range t.o.Sources {
		if s.File != "" {
			t.load(ctx, s)
		}
	}
}

func (t *Throttle) keepLoading(ctx context.Context, s Source) {
	if s.URL != "" {
		t.load(ctx, s)
	}
	tick := time.NewTicker(s.every())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.load(ctx, s)
		}
	}
}

func (t *Throttle) load(ctx context.Context, s Source) {
	list, err := s.Load(ctx, t.o.HTTP)
	if err != nil {
		if ctx.Err() == nil {
			t.noted(s.Name, nil, err)
			t.o.Log.Warn("list stays as it was", "list", s.Name, "error", err)
		}
		return
	}
	t.noted(s.Name, list, nil)
	for _, f := range list.Faults {
		t.o.Log.Warn("line of a list left out", "list", s.Name, "line", f.Line, "what", f.What)
	}
	t.SetList(list)
}

// SetList puts a list in the place of the one with its name.
func (t *Throttle) SetList(list *List) {
	for {
		old := t.lists.Load()
		lists := slices.DeleteFunc(slices.Clone(*old), func(l *List) bool { return l.Name == list.Name })
		lists = append(lists, list)
		if t.lists.CompareAndSwap(old, &lists) {
			return
		}
	}
}

// ReloadBans reads the administrator's own entries, at once after one was made.
func (t *Throttle) ReloadBans(ctx context.Context) {
	if t.o.Store == nil {
		return
	}
	asking, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	all, err := t.o.Store.Bans(asking)
	if err != nil {
		if ctx.Err() == nil {
			t.o.Log.Warn("own list stays as it was", "error", err)
		}
		return
	}
	t.bans.Store(newBans(all))
}
