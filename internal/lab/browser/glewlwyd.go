package browser

import (
	"context"

	"github.com/letterlock-mail/letterlock/internal/lab"
)

// AtGlewlwyd are the steps of a person at the pages of a lab.Glewlwyd that has not seen
// this browser yet: the password, a tick for each thing the client may know, and on.
func (b *Browser) AtGlewlwyd(ctx context.Context, who lab.Person) []func() error {
	steps := []func() error{
		func() error { return b.Fill(ctx, "#username", who.Name) },
		func() error { return b.Fill(ctx, "#password", who.Password) },
		func() error { return b.Click(ctx, "#loginbut") },
	}
	for _, scope := range []string{"profile", "email"} {
		steps = append(steps,
			func() error { return b.Click(ctx, "#grant-"+scope) },
			func() error { return b.WaitFor(ctx, "#grant-"+scope+":checked") },
		)
	}
	grant := func() error { return b.Click(ctx, ".carousel-item.active button.btn-primary") }
	return append(append(steps, grant), b.AtGlewlwydAgain(ctx)...)
}

// AtGlewlwydAgain are the steps of a person whom it knows, and who gave their consent: it
// asks only whether to go on.
func (b *Browser) AtGlewlwydAgain(ctx context.Context) []func() error {
	return []func() error{
		func() error { return b.WaitFor(ctx, ".row.text-center h3") }, // "Connection to ..."
		// The same button stood on the page before, and did nothing there.
		func() error { return b.Click(ctx, ".card-footer button.btn-success") },
	}
}
