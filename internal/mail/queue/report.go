package queue

import (
	"context"
	"slices"
	"strings"
	"time"
)

// A Bouncer takes a report to the sender of a message: into a local mailbox, a
// Maildir, or a queue. It must keep it durably before it returns nil. It may get the
// same report twice, after a crash or when it has failed, with the same ID.
type Bouncer interface {
	Bounce(ctx context.Context, n Notice) error
}

// A Notice is a report on its way to whom it concerns.
type Notice struct {
	ID        string // left side of its Message-ID: the same for the same report
	Kind      Kind
	To        string // the envelope sender
	Submitter string // of the message, as Envelope has it
	DSN       []byte
}

// tell logs, counts and announces what an attempt brought.
func (d *drain) tell(h *handle, it *item, r record) {
	envelope := h.state.head.envelope(h.state.size)
	event := Event{ID: it.id, Account: envelope.Account, State: h.state.state()}
	for _, saved := range r.Outcomes {
		o := saved.outcome(envelope.To[saved.Who].Address)
		event.Outcomes = append(event.Outcomes, o)
		word := ""
		switch o.Verdict {
		case Delivered:
			word = "delivered"
			it.sum.Delivered++
		case Deferred:
			word = "deferred"
			it.sum.Deferred++
		case Refused:
			word = "refused"
			it.sum.Bounced++
		case Unknown:
			word = "unknown"
			it.sum.Unknown++
		case SignIn:
			word = "sign-in needed"
			it.sum.Held++
		}
		d.log.Info("mail", "outcome", word, "id", it.id, "from", envelope.From, "to", o.Recipient, "server", o.Server,
			"status", o.Status, "reply", o.Reply, "possible_duplicate", h.state.people[saved.Who].unknowns > 0)
	}
	if d.options.Notice != nil {
		d.options.Notice(event)
	}
}

// wants says whether a recipient's sender wants to hear of something (RFC 3461
// section 4.1): without NOTIFY of failures and delays.
func (r Recipient) wants(what string) bool {
	if r.Notify == "" {
		return what != "SUCCESS"
	}
	return slices.ContainsFunc(strings.Split(r.Notify, ","), func(word string) bool {
		return strings.EqualFold(strings.TrimSpace(word), what)
	})
}

// report hands over the reports that are due. It says false when one could not be
// handed over.
func (d *drain) report(ctx context.Context, h *handle) bool {
	ok := true
	for _, kind := range []Kind{Failed, Relayed, Delayed} {
		if who := d.reportable(h.state, kind); len(who) > 0 {
			ok = d.reportOne(ctx, h, kind, who) && ok
		}
	}
	return ok
}

// reportable are the recipients that a report of that kind is due for.
func (d *drain) reportable(s *state, kind Kind) []int {
	late := !s.delayed && s.reason == "" && d.q.now().Sub(s.since) >= d.options.Schedule.Delay
	var who []int
	for i, p := range s.people {
		to := Recipient(s.head.To[i])
		due := false
		switch kind {
		case Failed:
			due = p.state == StateBounced && !p.reported && to.wants("FAILURE")
		case Relayed:
			due = p.state == StateDelivered && !p.reported && to.wants("SUCCESS") && !p.last.Reports
		case Delayed:
			due = late && p.state == StateQueued && p.last.Verdict == Deferred && !p.last.At.IsZero() && to.wants("DELAY")
		}
		if due {
			who = append(who, i)
		}
	}
	return who
}

func (d *drain) reportOne(ctx context.Context, h *handle, kind Kind, who []int) bool {
	envelope := h.state.head.envelope(h.state.size)
	if envelope.From == "" || d.options.Bouncer == nil {
		// No report about a report (RFC 5321 section 4.5.5): the log has it.
		d.log.Warn("nobody to report to", "id", h.id, "action", kind, "recipients", len(who))
		return true
	}
	report := Report{Kind: kind, ID: h.id, Envelope: envelope, Arrived: time.UnixMilli(h.state.head.Created),
		Until: h.state.since.Add(d.options.Schedule.GiveUp), Now: d.q.now(), Reporter: d.options.Reporter, Message: h.message()}
	for _, i := range who {
		report.Outcomes = append(report.Outcomes, h.state.people[i].last)
	}
	text, err := DSN(report)
	if err == nil {
		err = d.options.Bouncer.Bounce(ctx, Notice{ID: report.unique(), Kind: kind, To: envelope.From, Submitter: envelope.Submitter, DSN: text})
	}
	d.q.at("drain: bounced")
	if err == nil {
		err = h.append(record{Kind: recReport, Time: d.q.now().UnixMilli(), Who: who, Report: kind}, true)
	}
	if err != nil {
		d.log.Error("report cannot be handed over", "id", h.id, "action", kind, "error", err)
		return false
	}
	return true
}
