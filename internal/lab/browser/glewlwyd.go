package browser

import (
	"context"
	"fmt"

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
		func() error { return b.Click(ctx, "#loginbut") },
	}
}

// GlewlwydConsent is a tick for each thing that the client may know, or none. It is asked for
// once a person and client, in whatever browser.
func (b *Browser) GlewlwydConsent(ctx context.Context, scopes ...string) []func() error {
	var steps []func() error
	for _, scope := range scopes {
		steps = append(steps,
			func() error { return b.Click(ctx, "#grant-"+scope) },
			func() error { return b.WaitFor(ctx, "#grant-"+scope+":checked") },
		)
	}
	// A press on a page that is just being drawn does nothing, and is made again.
	return append(steps, func() error {
		return b.until(ctx, `(() => { if (document.querySelector(".row.text-center h3")) return true;
			document.querySelector(".carousel-item.active button.btn-primary")?.click(); return false })()`)
	})
}

// GlewlwydOn goes on to the client, which everybody has to, at each sign-in.
func (b *Browser) GlewlwydOn(ctx context.Context) []func() error {
	return []func() error{
		func() error { return b.WaitFor(ctx, ".row.text-center h3") }, // "Connection to ..."
		// The same button stood on the page before, and did nothing there.
		func() error { return b.Click(ctx, ".card-footer button.btn-success") },
	}
}

// GlewlwydOut says yes to the end of the session there, which a client asks for. The page
// breaks when it is pressed before it has heard which clients have to be told: then it knows
// the name of the one that asks.
func (b *Browser) GlewlwydOut(ctx context.Context, asking string) []func() error {
	return []func() error{
		func() error {
			return b.until(ctx, fmt.Sprintf(`[...document.querySelectorAll(".card-body h4")].some((e) => e.textContent.includes(%s))`, quoted(asking)))
		},
		func() error { return b.Click(ctx, ".card-body button.btn-danger") },
	}
}
