package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"net/http"
	"strings"
	"time"
)

// Our cookies. They begin with one word, and nothing that does reaches the web mail or
// comes from it.
const (
	ownCookies    = "letterlock-"
	sessionCookie = ownCookies + "mail"
	beginCookie   = ownCookies + "begin"
	hostPrefix    = "__Host-"
)

func (g *Gateway) cookieName(name string) string {
	if g.secure {
		return hostPrefix + name
	}
	return name
}

// cookie reads one of ours.
func (g *Gateway) cookie(r *http.Request, name string) string { return g.among(r.Cookies(), name) }

// among is one of ours, of the length of a secret, or "". Of two with one name neither is
// believed.
func (g *Gateway) among(cookies []*http.Cookie, name string) string {
	name = g.cookieName(name)
	value, count := "", 0
	for _, c := range cookies {
		if c.Name == name {
			value, count = c.Value, count+1
		}
	}
	if count != 1 || len(value) != secretLength {
		return ""
	}
	return value
}

// setCookie makes one: for this host alone, out of reach of scripts, not sent along with
// other sites' forms. A negative life ends it.
func (g *Gateway) setCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	c := &http.Cookie{Name: g.cookieName(name), Value: value, Path: "/", Secure: g.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if c.MaxAge = int(life / time.Second); life < 0 {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// isOwn knows our cookies and all that could be taken for one: browsers hold no __Host- or
// __Secure- name to its case, servers may.
func isOwn(name string) bool {
	name = strings.ToLower(name)
	name = strings.TrimPrefix(strings.TrimPrefix(name, "__host-"), "__secure-")
	name = strings.ReplaceAll(strings.ReplaceAll(name, "_", "-"), ".", "-")
	return name == "letterlock" || strings.HasPrefix(name, ownCookies)
}

// clearCookies ends the web mail's cookies in the browser. Those that it cannot name are
// worth nothing in another session: see bound.
func (g *Gateway) clearCookies(w http.ResponseWriter, r *http.Request) {
	done := map[string]bool{}
	for _, c := range r.Cookies() {
		if isOwn(c.Name) || done[c.Name] || len(done) >= 50 {
			continue
		}
		done[c.Name] = true
		http.SetCookie(w, &http.Cookie{Name: c.Name, Path: "/", MaxAge: -1, Secure: g.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
}

// boundMark separates the web mail's own value from what binds it. Values that are cut
// there by chance fail the check, and are not the web mail's.
const boundMark = "~"

// A binder binds cookies of the web mail to the session they were made in. It is for one
// request: its hash is used again for each of the cookies.
type binder struct {
	mac  hash.Hash
	text []byte
}

func newBinder(key [32]byte) *binder { return &binder{mac: hmac.New(sha256.New, key[:])} }

func (b *binder) seal(name, value string) string {
	b.text = append(append(append(b.text[:0], name...), 0), value...)
	b.mac.Reset()
	b.mac.Write(b.text)
	b.text = b.mac.Sum(b.text[:0])
	return base64.RawURLEncoding.EncodeToString(b.text[:16])
}

// bound is the value as the browser keeps it.
func (b *binder) bound(name, value string) string {
	return value + boundMark + b.seal(name, value)
}

// unbound is the web mail's value again; false for one that was made in another session, by
// a script, or by another host of the domain.
func (b *binder) unbound(name, value string) (string, bool) {
	cut := strings.LastIndex(value, boundMark)
	if cut < 0 {
		return "", false
	}
	plain := value[:cut]
	return plain, hmac.Equal([]byte(value[cut+1:]), []byte(b.seal(name, plain)))
}

// cookiesFor is the Cookie header for the web mail: its own cookies of this session, and
// those that its scripts keep.
func (g *Gateway) cookiesFor(cookies []*http.Cookie, key [32]byte) string {
	var b strings.Builder
	var session *binder
	for _, c := range cookies {
		value, ok := c.Value, g.scripted(c.Name)
		if isOwn(c.Name) {
			continue
		}
		if session == nil {
			session = newBinder(key)
		}
		if plain, mine := session.unbound(c.Name, c.Value); mine {
			value, ok = plain, true
		}
		if !ok {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.Name)
		b.WriteByte('=')
		b.WriteString(value)
	}
	return b.String()
}

// scripted reports whether scripts of the web mail keep such a cookie: it holds taste, and
// no right.
func (g *Gateway) scripted(name string) bool {
	for _, known := range g.o.Preset.ScriptCookies {
		if name == known {
			return true
		}
	}
	return false
}

// takeCookies binds what the web mail sets, to this host and to this session.
func (g *Gateway) takeCookies(head http.Header, key [32]byte) {
	if len(head["Set-Cookie"]) == 0 {
		return
	}
	cookies := (&http.Response{Header: http.Header{"Set-Cookie": head["Set-Cookie"]}}).Cookies()
	head.Del("Set-Cookie")
	session := newBinder(key)
	for _, c := range cookies {
		if isOwn(c.Name) {
			continue
		}
		ends := c.MaxAge < 0 || !c.Expires.IsZero() && c.Expires.Before(g.o.Now())
		if !ends && !(g.scripted(c.Name) && !c.HttpOnly) {
			c.Value = session.bound(c.Name, c.Value)
		}
		c.Domain = "" // not for its neighbours
		c.Secure = c.Secure || g.secure
		if c.SameSite == 0 || c.SameSite == http.SameSiteDefaultMode {
			c.SameSite = http.SameSiteLaxMode
		}
		if text := c.String(); text != "" {
			head.Add("Set-Cookie", text)
		}
	}
}
