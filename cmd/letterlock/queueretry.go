package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/client/sendmail"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// retry makes entries due and drains in the foreground. Without ids it is --all.
func (p *program) retry(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return p.runQueue(ctx, sendmail.QueueSelection{})
	}
	var due []queue.ID
	for _, id := range ids {
		q, err := p.queueWith(queue.ID(id))
		if err != nil {
			return err
		}
		if err := q.Retry(queue.ID(id)); err != nil {
			return entryFault(id, err)
		}
		due = append(due, queue.ID(id))
	}
	return p.drainNow(ctx, due...)
}

// runQueue is sendmail -q: what is queued becomes due and is sent. What is held or
// unknown stays: that needs a decision.
func (p *program) runQueue(ctx context.Context, selected sendmail.QueueSelection) error {
	q, err := p.openQueue()
	if err != nil {
		return err
	}
	due, err := makeDue(ctx, q, selected)
	if err != nil {
		return err
	}
	if p.somethingWaits() {
		waiting, err := p.openWaiting()
		if err != nil {
			return err
		}
		if _, err := makeDue(ctx, waiting, selected); err != nil {
			return err
		}
	}
	return p.drainNow(ctx, due...)
}

func makeDue(ctx context.Context, q *queue.Queue, selected sendmail.QueueSelection) ([]queue.ID, error) {
	var due []queue.ID
	for e, err := range q.List(ctx) {
		if err != nil || e.State != queue.StateQueued || !matches(e, selected) {
			continue
		}
		// One that left in the meantime, or is being sent, needs no push.
		if err := q.Retry(e.ID); err != nil && !errors.Is(err, queue.ErrNotFound) && !errors.Is(err, queue.ErrActive) {
			return nil, entryFault(string(e.ID), err)
		}
		due = append(due, e.ID)
	}
	return due, nil
}

func matches(e queue.Entry, s sendmail.QueueSelection) bool {
	return strings.Contains(string(e.ID), s.ID) && strings.Contains(e.Envelope.From, s.Sender) &&
		(s.Recipient == "" || slices.ContainsFunc(e.Recipients, func(r queue.Status) bool { return strings.Contains(r.Address, s.Recipient) }))
}
