package browser

import (
	"context"
	"fmt"
	"net/url"

	"github.com/chromedp/chromedp"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// SignIn opens an authorization address of a lab.OP, signs the person in,
// allows access, and waits until the browser has been sent elsewhere and that
// page is loaded. It returns the address it ended at.
func (b *Browser) SignIn(ctx context.Context, address string, who lab.Person) (string, error) {
	return b.walk(ctx, address, who, "#allow")
}

// Deny is SignIn of a person who refuses access.
func (b *Browser) Deny(ctx context.Context, address string, who lab.Person) (string, error) {
	return b.walk(ctx, address, who, "#deny")
}

// Approve opens a device flow's verification_uri_complete, or its
// verification_uri with the code to type, signs in and confirms.
func (b *Browser) Approve(ctx context.Context, verification, code string, who lab.Person) error {
	if err := b.Open(ctx, verification); err != nil {
		return err
	}
	if code != "" {
		if err := b.Fill(ctx, `input[name="user_code"]`, code); err != nil {
			return err
		}
	}
	_, err := b.walk(ctx, "", who, "#allow")
	return err
}

// maxPages bounds how many pages a sign-in may take.
const maxPages = 12

func (b *Browser) walk(ctx context.Context, address string, who lab.Person, answer string) (string, error) {
	if address != "" {
		if err := b.Open(ctx, address); err != nil {
			return "", err
		}
	} else if here, err := b.Location(ctx); err != nil {
		return "", err
	} else {
		address = here
	}
	home, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	for range maxPages {
		step, err := b.nextPage(ctx, home.Host)
		if err != nil {
			return "", err
		}
		switch step {
		case "signin":
			err = b.Fill(ctx, `input[name="username"]`, who.Email)
			if err == nil {
				err = b.Fill(ctx, `input[name="password"]`, who.Password)
			}
			if err == nil {
				err = b.Click(ctx, "#signin")
			}
		case "allow":
			err = b.Click(ctx, answer)
		case "continue", "confirm":
			err = b.Click(ctx, "#"+step)
		case "problem":
			text, _ := b.Text(ctx)
			return "", fmt.Errorf("sign in: %w: %s", ErrPage, text)
		default: // left, done
			return b.Location(ctx)
		}
		if err != nil {
			return "", fmt.Errorf("sign in: %w", err)
		}
	}
	return "", fmt.Errorf("sign in: still not done after %d pages", maxPages)
}

// pageState names the page that is open, once. The mark it leaves on the window
// goes with the document, so that the page just answered is not answered again.
const pageState = `(() => {
  if (document.readyState !== 'complete' || window.labSeen) return '';
  const known = ['problem', 'done', 'signin', 'allow', 'continue', 'confirm'];
  const found = location.host !== %q ? 'left' : known.find((id) => document.getElementById(id));
  if (!found) return '';
  window.labSeen = true;
  return found;
})()`

// nextPage waits for a page that was not answered yet.
func (b *Browser) nextPage(ctx context.Context, host string) (string, error) {
	for {
		step, err := ask(ctx, b, chromedp.Poll[string](fmt.Sprintf(pageState, host)))
		if err == nil {
			return step, nil
		}
		// A page that goes away under the question fails it; ask the next one,
		// as long as the caller has patience.
		if ctx.Err() != nil || b.ctx.Err() != nil {
			return "", fmt.Errorf("wait for the next page: %w", err)
		}
	}
}
