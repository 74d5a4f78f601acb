package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// A front is the page whose short address is shown to the person. It leads on to the long
// one that letterlock prints.
type front struct {
	url  string
	http *http.Server
	done sync.WaitGroup

	leadOnce sync.Once
	ready    chan struct{} // closed when there is somewhere to lead to
	target   string
}

// startFront listens on the wanted port, or on a free one when that is busy.
func startFront(port int) (*front, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("listen for the first page: %w", err)
		}
	}
	f := &front{url: "http://" + listener.Addr().String(), ready: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", f.page)
	f.http = pageServer(f.sameHost(web.Headers(mux)))
	f.done.Go(func() { _ = f.http.Serve(listener) })
	return f, nil
}

func pageServer(handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
}

// sameHost answers to our own name only: a name that somebody else's DNS points at
// this loopback address (rebinding) must not get pages of ours.
func (f *front) sameHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if "http://"+r.Host != f.url {
			web.Fault(w, http.StatusMisdirectedRequest, "This page is at another address.", f.url)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// page leads to the address that letterlock printed.
func (f *front) page(w http.ResponseWriter, r *http.Request) {
	select {
	case <-f.ready:
		http.Redirect(w, r, f.target, http.StatusSeeOther)
	case <-r.Context().Done():
	}
}

// lead tells the page where to.
func (f *front) lead(target string) {
	f.leadOnce.Do(func() {
		f.target = target
		close(f.ready)
	})
}

func (f *front) stop() {
	_ = f.http.Close()
	f.done.Wait()
}
