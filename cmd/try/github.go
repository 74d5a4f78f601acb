package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/lab/fakegithub"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A github stands for GitHub: the strict one of the tests, with a page in front of it
// where the person decides. Here whoever sits at this computer may be you@try.test.
type github struct {
	url      string
	secret   string // of letterlockd's app there
	callback string
	http     *http.Server
	done     sync.WaitGroup
}

const (
	appID    = "letterlock-try"
	yourID   = 4711
	memberOf = 9919 // the organisation whose members get in
)

// startGitHub starts it for the app that comes back to the address.
func startGitHub(callback string) (*github, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the stand-in of GitHub: %w", err)
	}
	g := &github{url: "http://" + listener.Addr().String(), secret: rand.Text(), callback: callback}
	fake := fakegithub.New(time.Now, appID, g.secret, callback)
	fake.Sit(&fakegithub.Person{
		ID: yourID, Login: "you", Name: "You", Emails: []fakegithub.Email{{Email: address, Primary: true, Verified: true}},
		Orgs: []fakegithub.Membership{{ID: memberOf, Org: memberOf, State: "active"}},
	})
	mux := http.NewServeMux()
	mux.Handle("/", fake)
	mux.Handle("GET /login/oauth/authorize", web.Headers(http.HandlerFunc(g.page)))
	mux.Handle("POST /decide", http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.decide(w, r, fake)
	})))
	g.http = pageServer(mux)
	g.done.Go(func() { _ = g.http.Serve(listener) })
	return g, nil
}

var gitHubPage = sync.OnceValue(func() *web.Page {
	return web.NewPage("Sign in", `
<p>This stands for GitHub, on your own computer and for this trial. The real one would ask for your password and your second factor now.</p>
<form method="post" action="/decide"><input type="hidden" name="query" value="{{.Query}}">
<button>I am {{.Address}}</button></form>`)
})

func (g *github) page(w http.ResponseWriter, r *http.Request) {
	gitHubPage().Show(w, http.StatusOK, struct{ Query, Address string }{r.URL.RawQuery, address}, g.callback)
}

// decide hands the request on as if it came only now.
func (g *github) decide(w http.ResponseWriter, r *http.Request, fake *fakegithub.Server) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	asked := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/login/oauth/authorize", RawQuery: r.PostFormValue("query")}, Header: r.Header}
	fake.ServeHTTP(w, asked)
}

func (g *github) stop() {
	_ = g.http.Close()
	g.done.Wait()
}
