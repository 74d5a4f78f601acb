package browser

import (
	"context"
	"fmt"

	"github.com/chromedp/chromedp"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// AtGlewlwyd are the steps of a person at the pages of a lab.Glewlwyd who was never there:
// the password, the consent, and on.
func (b *Browser) AtGlewlwyd(ctx context.Context, who lab.Person) []func() error {
	return append(append(b.GlewlwydPassword(ctx, who), b.GlewlwydConsent(ctx, "profile", "email")...), b.GlewlwydOn(ctx)...)
}

// GlewlwydPassword is what a browser is asked for that it does not know.
func (b *Browser) GlewlwydPassword(ctx context.Context, who lab.Person) []func() error {
	return []func() error{
		func() error { return b.Fill(ctx, "#username", who.Name) },
		func() error { return b.Fill(ctx, "#password", who.Password) },
		b.press(ctx, "#loginbut"),
	}
}

// GlewlwydConsent is a tick for each thing that the client may know, or none. It is asked for
// once a person and client, in whatever browser.
func (b *Browser) GlewlwydConsent(ctx context.Context, scopes ...string) []func() error {
	var steps []func() error
	for _, scope := range scopes {
		steps = append(steps,
			b.press(ctx, "#grant-"+scope),
			func() error { return b.WaitFor(ctx, "#grant-"+scope+":checked") },
		)
	}
	return append(steps, b.press(ctx, ".carousel-item.active button.btn-primary"))
}

// GlewlwydOn goes on to the client, which everybody has to, at each sign-in.
func (b *Browser) GlewlwydOn(ctx context.Context) []func() error {
	return []func() error{
		func() error { return b.WaitFor(ctx, ".row.text-center h3") }, // "Connection to ..."
		// The same button stood on the page before, and did nothing there.
		b.press(ctx, ".card-footer button.btn-success"),
	}
}

// GlewlwydOut says yes to the end of the session there, which a client asks for.
func (b *Browser) GlewlwydOut(ctx context.Context) []func() error {
	return []func() error{b.press(ctx, ".card-body button.btn-danger")}
}

// press clicks by script: its page is drawn anew under the mouse, and a click goes beside.
func (b *Browser) press(ctx context.Context, selector string) func() error {
	return func() error {
		if err := b.WaitFor(ctx, selector); err != nil {
			return err
		}
		_, err := ask(ctx, b, chromedp.Evaluate[bool](fmt.Sprintf("(document.querySelector(%q).click(), true)", selector)))
		return err
	}
}
