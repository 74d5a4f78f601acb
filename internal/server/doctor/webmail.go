package doctor

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// A WebMail is one gateway and what stands behind it.
type WebMail struct {
	Name   string
	Public string // what people type
	Pages  string // public_url of the pages, where people sign in
	// Upstream is the web mail, "http://HOST:PORT"; with Socket, a Unix socket is spoken to.
	// Empty: a web server hands it over and asks the gateway (ask_listen).
	Upstream, Socket string
	Resolver         Resolver
	// Own are this machine's addresses; nil: those of its interfaces.
	Own func() ([]net.Addr, error)
}

// webMailTraps are the rows about one gateway. What a browser without a session gets is all
// that can be seen from outside: that the gateway takes forged headers out of the requests
// of somebody who is signed in is its own affair, and its tests'.
func webMailTraps() []trap[*WebMail] {
	return []trap[*WebMail]{
		{id: "webmail-upstream", level: Wrong, live: true, why: "who signs in finds an error in place of their mail",
			mend: "start the web mail, or correct upstream in @section@", look: askUpstream},
		{id: "webmail-form", level: Wrong, live: true, why: "people can type passwords there, and guess others'",
			mend: "have public_url of @section@ lead to its listen address, and to nothing else", look: askForm},
		{id: "webmail-forged", level: Wrong, live: true, why: "whoever says so is let in as anybody",
			mend: "have public_url of @section@ lead to its listen address, and take these headers out of requests before: letterlockd config nginx --ask", look: askForged},
		{id: "webmail-passed-by", level: Warning, live: true, why: "the web mail believes what it is told: whoever reaches it without the gateway has its login form back",
			mend: "let it listen at 127.0.0.1 or at a Unix socket only (letterlockd config nginx)", look: passedBy},
	}
}

func (w *WebMail) place() *strings.Replacer {
	return strings.NewReplacer("@section@", "[gateway."+w.Name+"]")
}

func (w *WebMail) section(what string) []sighting {
	return []sighting{{where: "[gateway." + w.Name + "]", what: what}}
}

func (w *WebMail) unknown(err error) []sighting {
	return []sighting{{where: "[gateway." + w.Name + "]", level: Skipped, what: "unknown: " + err.Error()}}
}

// throttled is for an answer that says only that it is asked too often.
func (w *WebMail) throttled(path string) []sighting {
	return w.unknown(fmt.Errorf("%s%s answers 429", w.Public, path))
}

// askUpstream asks the web mail as the gateway does, without a token.
func askUpstream(ctx context.Context, w *WebMail) []sighting {
	if w.Upstream == "" {
		return nil
	}
	client := browser(w.Resolver)
	defer client.CloseIdleConnections()
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if w.Socket != "" {
			network, address = "unix", w.Socket
		}
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	res, _, err := get(ctx, client, w.Upstream+"/", nil)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return w.section("the web mail does not answer: " + plain(err).Error())
	case res.StatusCode >= http.StatusInternalServerError:
		return w.section("the web mail answers " + strconv.Itoa(res.StatusCode))
	}
	return nil
}

// visit asks at the public address as a browser that has never been there. signIn: it was
// sent to the pages.
func (w *WebMail) visit(ctx context.Context, path string, head http.Header) (res *http.Response, body []byte, signIn bool, err error) {
	client := browser(w.Resolver)
	defer client.CloseIdleConnections()
	if res, body, err = get(ctx, client, w.Public+path, head); err != nil {
		return nil, nil, false, err
	}
	to, bad := url.Parse(res.Header.Get("Location"))
	pages, bad2 := url.Parse(w.Pages)
	signIn = bad == nil && bad2 == nil && res.StatusCode/100 == 3 && strings.EqualFold(to.Host, pages.Host) && strings.HasPrefix(to.Path, "/gateway/"+w.Name)
	return res, body, signIn, nil
}

// askForm wants the ways to a login form to end at the pages. A refusal is as good: this
// machine may not be among the networks that may use it, and what asks the gateway may say
// 401 to who has no session.
func askForm(ctx context.Context, w *WebMail) []sighting {
	var doubt []sighting
	for _, path := range []string{"/", "/?_task=login", "/index.php?_task=login"} {
		res, body, signIn, err := w.visit(ctx, path, nil)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && isCertificate(err):
			return w.section(err.Error())
		case err != nil:
			return w.unknown(err)
		case bytes.Contains(bytes.ToLower(body), []byte(`type="password"`)):
			return w.section(w.Public + path + " shows a field for a password")
		case res.StatusCode == http.StatusTooManyRequests:
			if doubt == nil {
				doubt = w.throttled(path)
			}
		case res.StatusCode == http.StatusUnauthorized:
			if scheme := promptOf(res.Header.Values("WWW-Authenticate")); scheme != "" {
				return w.section(fmt.Sprintf("%s%s answers 401, and browsers ask for a password (%s)", w.Public, path, scheme))
			}
		case !signIn && res.StatusCode < 400:
			return w.section(fmt.Sprintf("%s%s answers %d and leads to no sign-in: the gateway is not what stands there", w.Public, path, res.StatusCode))
		case !signIn && res.StatusCode != http.StatusForbidden:
			return w.section(fmt.Sprintf("%s%s answers %d", w.Public, path, res.StatusCode))
		}
	}
	return doubt
}

// promptOf is the first scheme among challenges (RFC 9110 section 11.6.1) for which browsers
// show a field for a password of their own; "": none.
func promptOf(challenges []string) string {
	for _, value := range challenges {
		var bare strings.Builder
		for i, part := range strings.Split(value, `"`) {
			if i%2 == 0 { // not in a quoted string
				bare.WriteString(part)
			}
		}
		for _, item := range strings.Split(bare.String(), ",") {
			scheme, _, _ := strings.Cut(strings.TrimSpace(item), " ")
			for _, prompts := range []string{"Basic", "Digest", "NTLM"} {
				if strings.EqualFold(scheme, prompts) {
					return prompts
				}
			}
		}
	}
	return ""
}

// forged are headers by which proxies tell web mail who comes; Basic is what the gateway
// itself hands over.
func forged() http.Header {
	head := http.Header{"Authorization": {"Basic cG9zdG1hc3RlcjpCZWFyZXIgeA=="}}
	for _, name := range []string{"Remote-User", "X-Remote-User", "X-Forwarded-User", "X-Auth-Request-User", "X-Letterlock-User", "X_Remote_User"} {
		head[name] = []string{"postmaster"}
	}
	return head
}

func askForged(ctx context.Context, w *WebMail) []sighting {
	res, _, signIn, err := w.visit(ctx, "/", forged())
	switch {
	case ctx.Err() != nil || err != nil && isCertificate(err):
		return nil // webmail-form tells
	case err != nil:
		return w.unknown(err)
	case res.StatusCode == http.StatusTooManyRequests:
		return w.throttled("/")
	case signIn || res.StatusCode >= 400:
		return nil
	}
	without, _, signIn, err := w.visit(ctx, "/", nil)
	says := "leads to the sign-in"
	switch {
	case err != nil:
		return nil // webmail-form tells
	case without.StatusCode == http.StatusTooManyRequests:
		return w.throttled("/")
	case without.StatusCode == http.StatusUnauthorized, without.StatusCode == http.StatusForbidden:
		says = strconv.Itoa(without.StatusCode)
	case !signIn:
		return nil // nobody is kept out there: webmail-form tells
	}
	return w.section(fmt.Sprintf("with headers that claim to be somebody %s answers %d, and without them %s", w.Public, res.StatusCode, says))
}

// passedBy looks whether the web mail listens for others than this machine. What a firewall
// keeps out cannot be seen from here.
func passedBy(ctx context.Context, w *WebMail) []sighting {
	upstream, err := url.Parse(w.Upstream)
	if err != nil || w.Socket != "" || w.Upstream == "" {
		return nil
	}
	if ip, err := netip.ParseAddr(upstream.Hostname()); upstream.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return w.section(upstream.Host + " is not on this machine's loopback: other machines may reach it, which cannot be seen from here")
	}
	addresses := w.Own
	if addresses == nil {
		addresses = net.InterfaceAddrs
	}
	all, err := addresses()
	if err != nil {
		return w.unknown(err)
	}
	for _, address := range all {
		prefix, err := netip.ParsePrefix(address.String())
		if err != nil || prefix.Addr().IsLoopback() || prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		at := net.JoinHostPort(prefix.Addr().String(), upstream.Port())
		client := browser(w.Resolver)
		_, _, err = get(ctx, client, "http://"+at+"/", nil)
		client.CloseIdleConnections()
		if err == nil && ctx.Err() == nil {
			return w.section("it answers at " + at + " too; unless a firewall is there, other machines reach it")
		}
	}
	return nil
}
