// Package scim lets a directory (Entra ID, Okta, Keycloak, authentik, …) make, change,
// deactivate and delete the people who have a mailbox here: SCIM 2.0, RFC 7643 and
// RFC 7644, for users.
//
//	directory --POST/PUT/PATCH/DELETE /Users--> Handler --> Store --> audit trail --> mail servers
//
// A user is a person: userName is their canonical address, in one of the domains served
// here; active is whether they may act at all. Deactivating shuts them out everywhere at
// once, by the ways of every other revocation. It is the directory's own word: one that says
// "active" takes back what it said itself, never what an administrator or another source said,
// and whom an administrator has shut out stays out when the directory deletes them and makes
// them again.
// Names, displayName and e-mails are kept and given back; e-mails make no aliases. Other
// attributes of the core schema and of extensions are taken and forgotten, passwords
// first of all. There are no groups, no bulk, no sorting.
//
// Callers show a bearer token (RFC 6750), compared in constant time; it has the power of an
// administrator over everybody but to make one. Every change is an event of the audit trail
// with actor "scim".
//
// elimity-com/scim and imulab/go-scim were looked at: both want the schema described a
// second time and answer PATCH by their own model of attributes, not by what directories
// send (active as "False", values without a path, paths that select).
package scim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/letterlock-mail/letterlock/internal/secret"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// A Reader finds people as a directory sees them.
type Reader interface {
	User(ctx context.Context, id identity.PersonID) (identity.User, error)
	UserByAddress(ctx context.Context, address string) (identity.User, error)
	UserByExternal(ctx context.Context, external string) (identity.User, error)
	// Users leaves out the first offset and says how many there are in all.
	Users(ctx context.Context, offset, limit int) ([]identity.User, int, error)
}

// A Writer changes them; each call is one transaction with its events.
type Writer interface {
	AddUser(ctx context.Context, u identity.User, actor string) error
	ChangeUser(ctx context.Context, id identity.PersonID, at time.Time, actor string, change func(*identity.User) error) (identity.User, error)
	// RemoveUser keeps what an administrator has said against the person, for AddUser.
	RemoveUser(ctx context.Context, id identity.PersonID, at time.Time, actor string) error
	// Together makes one transaction of all that do asks with its context. An error of do
	// undoes it and is returned; do may be called again.
	Together(ctx context.Context, do func(ctx context.Context) error) error
}

// Store is what is kept; database has it.
type Store interface {
	Reader
	Writer
}

// Options shape a Handler.
type Options struct {
	Store   Store
	Domains []string // own mail domains: no other userName is taken
	Token   secret.String
	// Base is the URL that directories are given, such as https://id.example.org/scim/v2.
	Base string
	// Changed is called after a right may have been taken away; nil: nobody is told.
	Changed func()

	Now    func() time.Time
	Random io.Reader // crypto/rand.Reader
	Log    *slog.Logger
}

const (
	// actor is who does all this, in the audit trail.
	actor = "scim"
	// minToken is the length of a token that nobody guesses: 16 random bytes in hex.
	minToken = 32
	// maxBody bounds a request; a user with all attributes is about 4 KB.
	maxBody = 64 << 10
	// pageSize is how many users a page has, at most and when the caller does not say.
	pageSize = 200
)

// A Handler answers below its path; whoever mounts it strips what stands before /Users.
type Handler struct{ o Options }

// New checks the options.
func New(o Options) (*Handler, error) {
	if o.Store == nil || o.Now == nil || o.Random == nil || o.Log == nil {
		return nil, errors.New("scim: store, clock, randomness or log is missing")
	}
	if len(o.Token.Reveal()) < minToken {
		return nil, fmt.Errorf("scim: the token has fewer than %d characters", minToken)
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	o.Base = strings.TrimSuffix(o.Base, "/")
	return &Handler{o}, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	err := h.serve(w, r)
	if err == nil {
		return
	}
	f := h.fault(err)
	if f.status >= 500 {
		h.o.Log.Error("directory not answered", "method", r.Method, "error", err)
	}
	h.say(w, r, f.status, f.body())
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	if !h.known(r) {
		h.o.Log.Warn("directory without the token", "remote", r.RemoteAddr)
		w.Header().Set("WWW-Authenticate", `Bearer realm="scim"`)
		return &Fault{http.StatusUnauthorized, "", "the bearer token is missing or wrong"}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	kind, id, deeper := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	if strings.Contains(id, "/") {
		return notHere()
	}
	switch {
	case kind == "Users" && !deeper:
		return h.users(w, r)
	case kind == "Users":
		return h.user(w, r, identity.PersonID(id))
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return h.describe(w, r, kind, id)
	}
	return notHere()
}

func notHere() error { return &Fault{http.StatusNotFound, "", "there is nothing here"} }

// known compares the token in constant time; a digest hides its length too.
func (h *Handler) known(r *http.Request) bool {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given := identity.DigestOf(token)
	return given.Equal(identity.DigestOf(h.o.Token.Reveal())) && strings.EqualFold(kind, "Bearer")
}

func (h *Handler) users(w http.ResponseWriter, r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return h.list(w, r)
	case http.MethodPost:
		return h.create(w, r)
	}
	return notAllowed(w, "GET, POST")
}

func (h *Handler) user(w http.ResponseWriter, r *http.Request, id identity.PersonID) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		u, err := h.o.Store.User(r.Context(), id)
		if err != nil {
			return err
		}
		if tag := etag(resourceOf(u)); matches(r.Header.Get("If-None-Match"), tag) {
			w.Header().Set("ETag", tag)
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		return h.show(w, r, http.StatusOK, u)
	case http.MethodPut:
		return h.replace(w, r, id)
	case http.MethodPatch:
		return h.patch(w, r, id)
	case http.MethodDelete:
		return h.remove(w, r, id)
	}
	return notAllowed(w, "GET, PUT, PATCH, DELETE")
}

func notAllowed(w http.ResponseWriter, methods string) error {
	w.Header().Set("Allow", methods)
	return &Fault{http.StatusMethodNotAllowed, "", "this method is not for this resource"}
}

// body reads a request's JSON.
func body(r *http.Request) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/scim+json" && kind != "application/json" {
		return nil, &Fault{http.StatusUnsupportedMediaType, "", "send application/scim+json"}
	}
	data, err := io.ReadAll(r.Body)
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, &Fault{http.StatusRequestEntityTooLarge, "", fmt.Sprintf("more than %d bytes", maxBody)}
	case err != nil:
		return nil, &Fault{http.StatusBadRequest, "", "the body ended early"}
	}
	return data, nil
}

func (h *Handler) create(w http.ResponseWriter, r *http.Request) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	wanted, err := readUser(data)
	if err != nil {
		return err
	}
	id, err := identity.NewID(h.o.Random, h.o.Now())
	if err != nil {
		return err
	}
	u := identity.User{Person: identity.Person{ID: identity.PersonID(id), Created: h.o.Now()}, Changed: h.o.Now()}
	if err := h.into(wanted, &u); err != nil {
		return err
	}
	if err := h.o.Store.AddUser(r.Context(), u, actor); err != nil {
		return err
	}
	h.o.Log.Info("directory made a person", "person", u.Person.Address)
	if u, err = h.o.Store.User(r.Context(), u.Person.ID); err != nil {
		return err
	}
	return h.show(w, r, http.StatusCreated, u)
}

// replace is PUT (RFC 7644 section 3.5.1). An externalId that is left out stays: it is how
// the directory finds its people again.
func (h *Handler) replace(w http.ResponseWriter, r *http.Request, id identity.PersonID) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	wanted, err := readUser(data)
	if err != nil {
		return err
	}
	return h.change(w, r, id, func(u *identity.User) error {
		fresh := wanted
		if fresh.ExternalID == nil {
			fresh.ExternalID = &u.External
		}
		return h.into(fresh, u)
	})
}

// patch is PATCH (RFC 7644 section 3.5.2): all operations or none.
func (h *Handler) patch(w http.ResponseWriter, r *http.Request, id identity.PersonID) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	operations, err := parsePatch(data)
	if err != nil {
		return err
	}
	return h.change(w, r, id, func(u *identity.User) error {
		wanted := resourceOf(*u)
		wanted.Active = nil // said by the operations, or not at all
		for i, one := range operations {
			if err := one.apply(&wanted); err != nil {
				return atOperation(i, err)
			}
		}
		return h.into(wanted, u)
	})
}

func (h *Handler) change(w http.ResponseWriter, r *http.Request, id identity.PersonID, change func(*identity.User) error) error {
	u, err := h.o.Store.ChangeUser(r.Context(), id, h.o.Now(), actor, func(u *identity.User) error {
		if err := precondition(r, *u); err != nil {
			return err
		}
		return change(u)
	})
	if err != nil {
		return err
	}
	h.o.Changed()
	if u.Wish == identity.WishActive && !u.Person.Disabled.IsZero() {
		h.o.Log.Warn("directory wants a person active whom others keep out", "person", u.Person.Address, "reason", u.Person.Reason)
	}
	return h.show(w, r, http.StatusOK, u)
}

func (h *Handler) remove(w http.ResponseWriter, r *http.Request, id identity.PersonID) error {
	var u identity.User
	err := h.o.Store.Together(r.Context(), func(ctx context.Context) (err error) {
		if u, err = h.o.Store.User(ctx, id); err != nil {
			return err
		}
		if err := precondition(r, u); err != nil {
			return err
		}
		return h.o.Store.RemoveUser(ctx, id, h.o.Now(), actor)
	})
	if err != nil {
		return err
	}
	h.o.Changed()
	h.o.Log.Info("directory removed a person", "person", u.Person.Address)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// precondition is If-Match (RFC 7644 section 3.14).
func precondition(r *http.Request, u identity.User) error {
	wanted := r.Header.Get("If-Match")
	if wanted == "" || matches(wanted, etag(resourceOf(u))) {
		return nil
	}
	return &Fault{http.StatusPreconditionFailed, "", "the user has changed since"}
}

// matches looks for a tag in a list; weak and strong are the same to us.
func matches(list, tag string) bool {
	if strings.TrimSpace(list) == "*" {
		return true
	}
	for one := range strings.SplitSeq(list, ",") {
		if strings.TrimPrefix(strings.TrimSpace(one), "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

func (h *Handler) show(w http.ResponseWriter, r *http.Request, status int, u identity.User) error {
	resource := h.render(u)
	w.Header().Set("ETag", etag(resourceOf(u)))
	w.Header().Set("Location", h.place(u.Person.ID))
	shown, err := chosen(r, resource)
	if err != nil {
		return err
	}
	h.say(w, r, status, shown)
	return nil
}

func (h *Handler) place(id identity.PersonID) string { return h.o.Base + "/Users/" + string(id) }

func (h *Handler) say(w http.ResponseWriter, r *http.Request, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		h.o.Log.Error("directory not answered", "error", err)
		status, text = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/scim+json")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(text, '\n'))
	}
}
