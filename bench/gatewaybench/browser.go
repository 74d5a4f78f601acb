package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"
)

// A browser keeps cookies and follows no redirect by itself.
type browser struct{ client *http.Client }

func newBrowser() (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	// Whatever a host is called here, it is this machine.
	home := func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}
	return &browser{&http.Client{
		Jar: jar, Timeout: time.Minute, Transport: &http.Transport{DialContext: home, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// get returns where the answer leads, or its body.
func (b *browser) get(ctx context.Context, at *url.URL) (status int, next *url.URL, body string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return 0, nil, "", err
	}
	for _, field := range browserHeader() {
		if field[0] != "Accept-Encoding" {
			r.Header.Set(field[0], field[1])
		}
	}
	resp, err := b.client.Do(r)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); to != "" {
		next, err = at.Parse(to)
		return resp.StatusCode, next, "", err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return resp.StatusCode, nil, string(text), err
}

func (b *browser) cookies(at *url.URL) string {
	var all []string
	for _, c := range b.client.Jar.Cookies(at) {
		all = append(all, c.Name+"="+c.Value)
	}
	return strings.Join(all, "; ")
}

// fetch asks as the load does and returns the whole answer.
func fetch(ctx context.Context, p *peer, path, cookie string) (int, []byte, error) {
	conn, err := (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, nil, err
	}
	if _, err := io.WriteString(conn, p.plain(path, cookie)); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return resp.StatusCode, body, err
}
