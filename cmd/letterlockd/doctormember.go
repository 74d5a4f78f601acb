package main

import (
	"context"
	"fmt"
	"time"

	"github.com/letterlock-mail/letterlock/internal/server/doctor"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// staleMembership is how long a provider may be without an answer before doctor says so.
const staleMembership = 24 * time.Hour

// memberFindings are what doctor says about [membership.NAME]; nothing without a section.
func (p *program) memberFindings(ctx context.Context) ([]doctor.Finding, error) {
	conf, err := p.config()
	if err != nil || len(conf.Membership) == 0 {
		return nil, err
	}
	looks, leavers, err := p.readMembership(ctx)
	if err != nil {
		return nil, err
	}
	var all []doctor.Finding
	for _, l := range looks {
		one := doctor.Finding{ID: "membership-answer", Level: doctor.OK, Where: "[membership." + l.Name + "]", Live: true,
			Why: "A provider that does not answer suspends nobody: who leaves keeps their mail."}
		if l.Trouble != "" && (l.Answered == nil || p.now().Sub(*l.Answered) > staleMembership) {
			one.Level, one.What, one.Mend = doctor.Wrong, "no answer since "+moment(l.Answered)+": "+l.Trouble, "letterlockd membership show"
		}
		waiting := 0
		for _, v := range leavers {
			if v.Name == l.Name && v.State == string(identity.LeaverWaiting) {
				waiting++
			}
		}
		all = append(all, one)
		if waiting > 0 {
			all = append(all, doctor.Finding{ID: "membership-waiting", Level: doctor.Warning, Where: one.Where, Live: true,
				What: fmt.Sprintf("%d accounts are no members any more and wait for your word", waiting),
				Why:  "Too many would be suspended at once, which is rather a fault than everybody leaving.", Mend: "letterlockd membership show, then letterlockd membership approve " + l.Name})
		}
	}
	return all, nil
}
