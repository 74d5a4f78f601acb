// Package github asks the REST API of GitHub, or of a GitHub server of one's own: one
// question at a time, with the answers told apart that decide about people. A refusal, a
// rate limit and an outage all come as 4xx; taking one for another would lock somebody out.
//
// Looked at: google/go-github is well kept, but is the whole API with its own rate limit
// bookkeeping, does not bound an answer's size, and follows the next page's address
// wherever it leads; four questions do not need it.
package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// Public is where people and their browsers find GitHub itself.
const Public = "https://github.com"

// Addresses fills in what follows from the rest: web is where people go, Public when it is
// empty; api is where programs ask, api.github.com for Public and web/api/v3 elsewhere.
func Addresses(web, api string) (string, string) {
	if web == "" {
		web = Public
	}
	web = strings.TrimSuffix(web, "/")
	switch {
	case api != "":
	case web == Public:
		api = "https://api.github.com"
	default:
		api = web + "/api/v3"
	}
	return web, api
}

// A Client asks one API.
type Client struct {
	API   string // as of Addresses
	HTTP  *http.Client
	Now   func() time.Time
	Limit int64 // bytes of one answer
	Pages int   // of one list
}

// A Denied is a definite no: 403 that is no rate limit, or 404.
type Denied struct {
	Place  string
	Status int
}

func (d *Denied) Error() string { return fmt.Sprintf("%s answered %d", d.Place, d.Status) }

// A Limited says that too much was asked; it is no answer about anybody.
type Limited struct {
	Place  string
	Status int
	After  time.Duration // when to ask again, an hour at most
}

func (l *Limited) Error() string { return fmt.Sprintf("%s: rate limit (%d)", l.Place, l.Status) }

// A Failed is any other answer that is none.
type Failed struct {
	Place  string
	Status int
}

func (f *Failed) Error() string { return fmt.Sprintf("%s answered %d", f.Place, f.Status) }

// Bearer makes the Authorization field of a token.
func Bearer(token secret.String) secret.String { return secret.New("Bearer " + token.Reveal()) }

// Basic makes the Authorization field of an app and its secret.
func Basic(id string, password secret.String) secret.String {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(id, password.Reveal())
	return secret.New(r.Header.Get("Authorization"))
}

// Call asks, and reads the answer into what into points to unless that is nil. next: the
// list has another page. Errors are *Denied, *Limited, *Failed, or what the network said.
func (c *Client) Call(ctx context.Context, method, place string, authorization secret.String, body []byte, into any) (next bool, err error) {
	path, _, _ := strings.Cut(place, "?")
	req, err := http.NewRequestWithContext(ctx, method, c.API+place, bytes.NewReader(body))
	if err != nil {
		return false, errors.New("the address of the API is none")
	}
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	req.Header.Set("User-Agent", "Letterlock") // requests without one are refused
	req.Header.Set("Authorization", authorization.Reveal())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		var wrapped *url.Error // it would repeat the address
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return false, fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(res.Body, c.Limit+1))
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: %w", path, err)
	case int64(len(data)) > c.Limit:
		return false, fmt.Errorf("%s: an answer of more than %d bytes", path, c.Limit)
	}
	if err := c.status(path, res, data); err != nil {
		return false, err
	}
	if into == nil {
		return false, nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return false, fmt.Errorf("%s: the answer is not what it should be", path)
	}
	return hasNext(res.Header.Values("Link")), nil
}

// status tells a no from a "later". Rate limits come as 403 and as 429, and a 403 that is
// one must never be read as "not a member".
func (c *Client) status(path string, res *http.Response, body []byte) error {
	limited := res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusForbidden &&
		(res.Header.Get("X-RateLimit-Remaining") == "0" || res.Header.Get("Retry-After") != "" || bytes.Contains(body, []byte("rate limit")))
	switch {
	case res.StatusCode/100 == 2:
		return nil
	case limited:
		return &Limited{Place: path, Status: res.StatusCode, After: c.wait(res.Header)}
	case res.StatusCode == http.StatusForbidden, res.StatusCode == http.StatusNotFound:
		return &Denied{path, res.StatusCode}
	}
	return &Failed{path, res.StatusCode}
}

// wait reads how long to wait, an hour at most: limits are by the hour.
func (c *Client) wait(header http.Header) time.Duration {
	seconds, err := strconv.ParseInt(header.Get("Retry-After"), 10, 32)
	if err != nil {
		reset, err := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64)
		if err != nil {
			return time.Minute
		}
		seconds = reset - c.Now().Unix()
	}
	return time.Duration(min(max(seconds, 1), 3600)) * time.Second
}

// hasNext looks for rel="next" (RFC 8288).
func hasNext(lines []string) bool {
	for _, line := range lines {
		for _, part := range strings.Split(line, ",") {
			_, parameters, _ := strings.Cut(part, ">")
			for _, parameter := range strings.Split(parameters, ";") {
				name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
				if strings.EqualFold(name, "rel") && slices.Contains(strings.Fields(strings.Trim(value, `"`)), "next") {
					return true
				}
			}
		}
	}
	return false
}

// List reads a list page by page while see wants more. Pages end where the answer names no
// next one; the address it names is not followed.
func List[T any](ctx context.Context, c *Client, authorization secret.String, place string, see func([]T) (more bool)) error {
	for n := 1; n <= c.Pages; n++ {
		var page []T
		next, err := c.Call(ctx, http.MethodGet, fmt.Sprintf("%s?per_page=100&page=%d", place, n), authorization, nil, &page)
		if err != nil || !see(page) || !next {
			return err
		}
	}
	return fmt.Errorf("%s: more than %d pages", place, c.Pages)
}
