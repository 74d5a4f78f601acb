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
	"time"
)

// click does what a person would: it opens the front page, follows where it leads,
// and on each page with a form sends the form with its first button, until a page
// has none. It is a browser without a screen and takes no short cut into the server.
func click(ctx context.Context, front string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, front, nil)
	if err != nil {
		return err
	}
	for range 6 {
		page, at, err := open(browser, req)
		if err != nil {
			return err
		}
		action, form, ok := firstForm(page)
		if !ok {
			return nil
		}
		target, err := at.Parse(action)
		if err != nil {
			return fmt.Errorf("the form leads to %q", action)
		}
		if req, err = http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(form.Encode())); err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", at.Scheme+"://"+at.Host)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return errors.New("the pages do not come to an end")
}

func open(browser *http.Client, req *http.Request) (page string, at *url.URL, err error) {
	resp, err := browser.Do(req)
	if err != nil {
		return "", nil, fmt.Errorf("open page: %w", withoutQuery(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", nil, fmt.Errorf("read page: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("page %s answered %s", resp.Request.URL.Path, resp.Status)
	}
	return string(body), resp.Request.URL, nil
}

// withoutQuery takes the URL out of the error: the last one holds the code.
func withoutQuery(err error) error {
	var fault *url.Error
	if errors.As(err, &fault) {
		return fault.Err
	}
	return err
}

// firstForm reads the form of a page of ours, whose shape is known; it is no reader
// of HTML in general.
func firstForm(page string) (action string, form url.Values, ok bool) {
	_, page, ok = strings.Cut(page, "<form ")
	if !ok {
		return "", nil, false
	}
	page, _, _ = strings.Cut(page, "</form>")
	tag, rest, _ := strings.Cut(page, ">")
	form = url.Values{}
	for _, input := range regexp.MustCompile(`<input type="(?:hidden|text)"[^>]*>`).FindAllString(rest, -1) {
		form.Set(attribute(input, "name"), attribute(input, "value"))
	}
	if button := regexp.MustCompile(`<button[^>]*>`).FindString(rest); attribute(button, "name") != "" {
		form.Set(attribute(button, "name"), attribute(button, "value"))
	}
	return attribute(tag, "action"), form, true
}

func attribute(tag, name string) string {
	_, after, _ := strings.Cut(tag, " "+name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return html.UnescapeString(value)
}
