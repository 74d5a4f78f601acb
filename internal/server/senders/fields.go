package senders

import (
	"context"
)

// checkFields says what is wrong with the fields of a message, "" when nothing is. The
// text goes to the peer and names no address of anybody else.
func (b *Book) checkFields(ctx context.Context, who Who, fields map[string][]string, tooLarge bool) (problem string, err error) {
	switch {
	case tooLarge:
		return "the From, Sender and Resent fields are too long", nil
	case len(fields[from]) == 0:
		return "it has no From field", nil
	case len(fields[from]) > 1:
		// Which one is shown depends on the reader (RFC 5322 section 3.6 allows one).
		return "it has more than one From field", nil
	case len(fields[sender]) > 1:
		return "it has more than one Sender field", nil
	}
	for _, field := range []struct {
		name, shown string
		single      bool
	}{
		{from, "From", false}, {sender, "Sender", true},
		// A message that was resent several times has a block for each time, and nobody
		// can know which blocks came from outside: all of them must be the sender's.
		{resentFrom, "Resent-From", false}, {resentSender, "Resent-Sender", true},
	} {
		for _, value := range fields[field.name] {
			problem, err := b.checkField(ctx, who, value, field.single)
			if err != nil || problem != "" {
				return field.shown + ": " + problem, err
			}
		}
	}
	return "", nil
}

func (b *Book) checkField(ctx context.Context, who Who, value string, single bool) (problem string, err error) {
	mailboxes, err := parseMailboxes(value)
	if err != nil {
		return err.Error(), nil
	}
	if single && len(mailboxes) > 1 {
		return "only one address is allowed there", nil
	}
	for _, m := range mailboxes {
		own, err := b.MaySend(ctx, who, m.address)
		if err != nil {
			return "", err
		}
		if !own {
			return "the address is not one that you may send as", nil
		}
		for _, shown := range m.shown {
			own, err := b.MaySend(ctx, who, shown)
			if err != nil {
				return "", err
			}
			if !own {
				return "the name shows an address that you may not send as", nil
			}
		}
	}
	return "", nil
}
