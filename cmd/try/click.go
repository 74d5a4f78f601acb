package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

// A surfer is a browser without a screen. It does what a person would, and takes no short
// cut into the server.
type surfer struct {
	client *http.Client
	page   string
	at     *url.URL
}

func newSurfer() (*surfer, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &surfer{client: &http.Client{Jar: jar, Timeout: patience}}, nil
}

// click opens the front page, follows where it leads, and on each page with a form sends
// the form with its first button, until a page has none.
func click(ctx context.Context, front string) error {
	s, err := newSurfer()
	if err != nil {
		return err
	}
	if err := s.open(ctx, front); err != nil {
		return err
	}
	for range 8 {
		action, form, ok := firstForm(s.page)
		if !ok {
			return nil
		}
		if err := s.send(ctx, action, form); err != nil {
			return err
		}
	}
	return errors.New("the pages do not come to an end")
}

// open goes to an address.
func (s *surfer) open(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	return s.do(req)
}

// send sends a form of the page that is open.
func (s *surfer) send(ctx context.Context, action string, form url.Values) error {
	target, err := s.at.Parse(action)
	if err != nil {
		return fmt.Errorf("the form leads to %q", action)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", s.at.Scheme+"://"+s.at.Host)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return s.do(req)
}

func (s *surfer) do(req *http.Request) error {
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("open page: %w", withoutQuery(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read page: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("page %s answered %s", resp.Request.URL.Path, resp.Status)
	}
	s.page, s.at = string(body), resp.Request.URL
	return nil
}

// withoutQuery takes the URL out of the error: the last one holds the code.
func withoutQuery(err error) error {
	var fault *url.Error
	if errors.As(err, &fault) {
		return fault.Err
	}
	return err
}

// firstForm reads the first form of a page of ours, whose shape is known; it is no reader
// of HTML in general.
func firstForm(page string) (action string, form url.Values, ok bool) {
	_, page, ok = strings.Cut(page, "<form ")
	if !ok {
		return "", nil, false
	}
	action, form = readForm(page)
	return action, form, true
}

// formTo reads the first form that leads to a path.
func formTo(page, path string) (form url.Values, ok bool) {
	for _, text := range strings.Split(page, "<form ")[1:] {
		action, form := readForm(text)
		if action == path {
			return form, true
		}
	}
	return nil, false
}

func readForm(text string) (action string, form url.Values) {
	text, _, _ = strings.Cut(text, "</form>")
	tag, rest, _ := strings.Cut(text, ">")
	form = url.Values{}
	for _, input := range regexp.MustCompile(`<input type="(?:hidden|text)"[^>]*>`).FindAllString(rest, -1) {
		form.Set(attribute(input, "name"), attribute(input, "value"))
	}
	if button := regexp.MustCompile(`<button[^>]*>`).FindString(rest); attribute(button, "name") != "" {
		form.Set(attribute(button, "name"), attribute(button, "value"))
	}
	return attribute(tag, "action"), form
}

func attribute(tag, name string) string {
	_, after, _ := strings.Cut(tag, " "+name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return html.UnescapeString(value)
}
