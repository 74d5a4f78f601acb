package browser

import (
	"context"
	"fmt"
	"time"

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
		b.seen(ctx, "#password"),
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
			b.seen(ctx, "#grant-"+scope+":checked"),
		)
	}
	// A press on a page that is just being drawn does nothing, and is made again.
	return append(steps, b.until(ctx, `(() => { if (document.querySelector(".row.text-center h3")) return true;
		document.querySelector(".carousel-item.active button.btn-primary")?.click(); return false })()`))
}

// GlewlwydOn goes on to the client, which everybody has to, at each sign-in.
func (b *Browser) GlewlwydOn(ctx context.Context) []func() error {
	return []func() error{
		b.seen(ctx, ".row.text-center h3"), // "Connection to ..."
		// The same button stood on the page before, and did nothing there.
		b.press(ctx, ".card-footer button.btn-success"),
	}
}

// GlewlwydOut says yes to the end of the session there, which a client asks for.
func (b *Browser) GlewlwydOut(ctx context.Context) []func() error {
	return []func() error{b.press(ctx, ".card-body button.btn-danger")}
}

// there tells whether what a selector finds is on the page; pressed clicks it too.
const (
	there   = `!!document.querySelector(%[1]q)?.getClientRects().length`
	pressed = `(() => { const e = document.querySelector(%[1]q); if (!e?.getClientRects().length) return false; e.click(); return true })()`
)

// press clicks by script: the page is drawn anew under the mouse, and a click goes beside.
func (b *Browser) press(ctx context.Context, selector string) func() error {
	return b.until(ctx, fmt.Sprintf(pressed, selector))
}

func (b *Browser) seen(ctx context.Context, selector string) func() error {
	return b.until(ctx, fmt.Sprintf(there, selector))
}

// until asks a script until it says yes. WaitFor holds on to nodes, and waits for ever on a
// busy machine when all of them are drawn anew at the wrong moment.
func (b *Browser) until(ctx context.Context, script string) func() error {
	return func() error {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			yes, err := ask(ctx, b, chromedp.Evaluate[bool](script))
			if err == nil && yes {
				return nil
			}
			select {
			case <-tick.C: // a page that goes away under the question fails it
			case <-ctx.Done():
				return fmt.Errorf("wait for %s: %w", script, ctx.Err())
			case <-b.ctx.Done():
				return fmt.Errorf("wait for %s: %w", script, b.ctx.Err())
			}
		}
	}
}
