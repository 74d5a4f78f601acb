package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxDocument  = 256 << 10 // the largest honest ones have some 20 KB
	maxRedirects = 3
	maxDepth     = 12
)

// A document is what an https server said.
type document struct {
	body  []byte
	place string // where it was in the end
	// foreign is the first host outside of the domain that had a hand in it.
	foreign string
}

// fetch gets a document, and follows at most redirects to other https places.
func (s *search) fetch(ctx context.Context, place string, redirects int) (document, error) {
	d := document{place: place}
	seen := map[string]bool{}
	for hop := 0; ; hop++ {
		u, err := checkURL(d.place)
		if err != nil {
			return d, err
		}
		if seen[u.String()] {
			return d, errors.New("its redirects go in circles")
		}
		seen[u.String()] = true
		if host := strings.ToLower(u.Hostname()); d.foreign == "" && !within(host, s.domain) {
			d.foreign = host
		}
		next, err := s.get(ctx, u, &d)
		if err != nil || next == "" {
			return d, err
		}
		if hop == redirects {
			return d, fmt.Errorf("it redirects more than %d times", redirects)
		}
		to, err := u.Parse(next)
		if err != nil {
			return d, errors.New("it redirects to what is no URL")
		}
		if _, err := checkURL(to.String()); err != nil {
			return d, fmt.Errorf("it redirects to %w", err)
		}
		d.place = to.String()
	}
}

// get asks once. next is where a redirect leads.
func (s *search) get(ctx context.Context, u *url.URL, d *document) (next string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", errors.New("not a URL")
	}
	req.Header.Set("User-Agent", "Letterlock")
	res, err := s.HTTP.Do(req)
	if err != nil {
		var wrapped *url.Error // repeats the URL, and with it the address
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return "", unreachable(err)
	}
	defer func() { _ = res.Body.Close() }()
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return res.Header.Get("Location"), nil
	case http.StatusNotFound, http.StatusGone:
		return "", fmt.Errorf("%w (%d)", errAbsent, res.StatusCode)
	case http.StatusOK:
	default:
		return "", fmt.Errorf("the server answered %d", res.StatusCode)
	}
	d.body, err = io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	switch {
	case err != nil:
		return "", unreachable(err)
	case len(d.body) > maxDocument:
		return "", fmt.Errorf("a document of more than %d bytes", maxDocument)
	}
	return "", nil
}

// shallow refuses JSON that nests deeply or names a member twice: two readers would
// take two different values for the true one.
func shallow(body []byte) error {
	type level struct {
		object bool
		name   bool // a member's name comes next
		seen   map[string]bool
	}
	var open []level
	decoder := json.NewDecoder(bytes.NewReader(body))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("not JSON")
		}
		top := len(open) - 1
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			open = open[:top]
			continue
		}
		if top >= 0 && open[top].object {
			if name, ok := token.(string); ok && open[top].name {
				if open[top].seen[name] {
					return errors.New("JSON that names a member twice")
				}
				open[top].seen[name], open[top].name = true, false
				continue
			}
			open[top].name = true
		}
		if delim, ok := token.(json.Delim); ok {
			if len(open) == maxDepth {
				return errors.New("JSON nested too deeply")
			}
			open = append(open, level{object: delim == '{', name: true, seen: map[string]bool{}})
		}
	}
}

// unreachable tells a host that DNS does not have from one that is in trouble.
func unreachable(err error) error {
	if notThere(err) {
		return fmt.Errorf("%w (%w)", errAbsent, err)
	}
	return err
}
