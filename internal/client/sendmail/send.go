package sendmail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"

	"github.com/letterlock-mail/letterlock/internal/cli"
	"github.com/letterlock-mail/letterlock/internal/mail/message"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
)

// Send reads a message from in and puts it into the queue for the recipients of o.
// When it returns nil the message is durable; on any error nothing was queued.
func (s *Sender) Send(ctx context.Context, o Options, in io.Reader) (queue.ID, error) {
	// Addresses of the command line come first: who passes a bad one should not have
	// to wait for the end of standard input to hear of it.
	recipients, err := parseList(o.Recipients)
	if err != nil {
		return "", err
	}
	sender, err := parseSender(o.Sender)
	if err != nil {
		return "", err
	}
	m, err := message.Read(in, s.Limits)
	if err != nil {
		return "", readFault(err)
	}
	defer m.Close()
	if o.FromHeader {
		found, err := m.Recipients()
		if err != nil {
			return "", addressFault(err)
		}
		recipients = append(recipients, found...)
	}
	m.StripBcc()
	if s.Forward != nil {
		return s.forward(ctx, o, recipients, sender, m)
	}
	envelope, err := s.envelope(o, recipients)
	if err != nil {
		return "", err
	}
	if envelope.From, envelope.Account, err = s.complete(m, o, sender); err != nil {
		return "", err
	}
	needs := m.Requirements()
	envelope.EightBit = needs.EightBit
	envelope.UTF8 = needs.UTF8 || !ascii(envelope.From) || slices.ContainsFunc(envelope.To, func(r queue.Recipient) bool { return !ascii(r.Address) })
	id, err := s.Queue.Put(ctx, envelope, io.MultiReader(strings.NewReader(s.received()), m.Reader()))
	if err != nil {
		return "", cli.Wrap(cli.TempFail, fmt.Errorf("queue the message: %w", err), "nothing was queued: look at the disk and its rights, then send it again")
	}
	return id, nil
}

// forward leaves everything to the system but what only the caller's side knows: when
// the message was written.
func (s *Sender) forward(ctx context.Context, o Options, recipients []string, sender *string, m *message.Message) (queue.ID, error) {
	if len(recipients) == 0 {
		return "", noRecipients()
	}
	if !m.Has("Date") {
		m.Set("Date", s.date())
	}
	o.Recipients, o.Sender, o.FromHeader = recipients, sender, false
	return s.Forward(ctx, o, m)
}

func (s *Sender) date() string { return s.Now().Format("Mon, 02 Jan 2006 15:04:05 -0700") } // RFC 5322 section 3.3

// received is the trace field of a message that somebody else handed over (RFC 5321
// section 4.4), in the words that postmasters know.
func (s *Sender) received() string {
	if s.Submitter == "" {
		return ""
	}
	return fmt.Sprintf("Received: by %s (Letterlock, from %s);\r\n\t%s\r\n", s.Host, s.Submitter, s.date())
}

func noRecipients() error {
	return cli.Faultf(cli.Usage, "the header names nobody in To, Cc or Bcc", "no recipients")
}

// envelope resolves the recipients.
func (s *Sender) envelope(o Options, recipients []string) (queue.Envelope, error) {
	if len(recipients) == 0 {
		return queue.Envelope{}, noRecipients()
	}
	resolved, err := s.Resolve(recipients, o.NoAliases)
	if err != nil {
		return queue.Envelope{}, err
	}
	e := queue.Envelope{EnvelopeID: o.EnvelopeID, Return: o.Return}
	for _, address := range resolved {
		e.To = append(e.To, queue.Recipient{Address: address, Notify: o.Notify})
	}
	return e, nil
}

// Resolve turns addresses, bare local names among them, into the addresses that the
// message goes to, each once.
func (s *Sender) Resolve(addresses []string, noAliases bool) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, address := range addresses {
		targets := []string{s.localName(address)}
		if !noAliases && s.Aliases != nil && !strings.Contains(targets[0], "@") {
			aliases, err := s.Aliases()
			if err != nil {
				return nil, cli.Wrap(cli.Config, err, "correct the alias file; sendmail -bi checks it")
			}
			if targets, err = aliases.expand(targets[0]); err != nil {
				return nil, err
			}
		}
		for _, target := range targets {
			for _, final := range s.qualify(s.localName(target)) {
				if key := addressKey(final); !seen[key] {
					seen[key] = true
					out = append(out, final)
				}
			}
		}
	}
	return out, nil
}

// localName takes the domain off an address of this very machine.
func (s *Sender) localName(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 {
		return address
	}
	domain := address[at+1:]
	for _, here := range []string{"localhost", "localhost.localdomain", s.Host, s.Mailname} {
		if strings.EqualFold(domain, here) {
			return address[:at]
		}
	}
	return address
}

// qualify says where a local name goes that no alias knows: there is no mailbox on a
// machine that only sends. Root's mail is for Root; that of others too, unless their
// addresses are known by Domain.
func (s *Sender) qualify(address string) []string {
	if strings.Contains(address, "@") {
		return []string{address}
	}
	if len(s.Root) > 0 && (s.Domain == "" || strings.EqualFold(address, "root")) {
		return s.Root
	}
	return []string{address + "@" + s.domain()}
}

// addressKey compares addresses: domains without regard to case, local parts exactly
// (RFC 5321 section 2.4).
func addressKey(address string) string {
	at := strings.LastIndexByte(address, '@')
	return address[:at+1] + strings.ToLower(address[at+1:])
}

// complete settles the way out and the sender, and fills in what the header lacks.
// sender is nil when the caller named none.
func (s *Sender) complete(m *message.Message, o Options, sender *string) (from, account string, err error) {
	written, err := m.From()
	if err != nil {
		return "", "", addressFault(err)
	}
	way, err := s.way(o.Account, written, sender)
	if err != nil {
		return "", "", err
	}
	own := way.Address
	if way.Policy == Keep || own == "" {
		own = s.User + "@" + s.domain()
	}
	author := own
	if sender != nil && *sender != "" {
		author = *sender
	}
	name := o.Name
	if name == "" {
		name = s.Name
	}
	err = m.Complete(message.Completion{From: message.Mailbox{Name: name, Address: author}, Domain: s.domain(), Host: s.Host, Now: s.Now(), Random: s.Random})
	if err != nil {
		return "", "", readFault(err)
	}
	if err := s.settleAuthor(m, way); err != nil {
		return "", "", err
	}
	from, err = s.settleSender(m, way, own, sender)
	return from, way.Account, err
}

// settleAuthor applies the policy to the From field.
func (s *Sender) settleAuthor(m *message.Message, way Way) error {
	authors, err := m.From()
	if err != nil {
		return addressFault(err)
	}
	for _, author := range authors {
		if way.permits(author.Address) || way.Policy == Keep {
			continue
		}
		if way.Policy == Refuse {
			return notPermitted(way, author.Address)
		}
		if s.Submitter != "" {
			m.Set("X-Original-From", m.Get("From")) // whose message it is, where several share an account
		}
		if err := m.RewriteFrom(way.Address); err != nil {
			return readFault(err)
		}
		break
	}
	if err := settleSenderField(m, way); err != nil {
		return err
	}
	return settleResent(m, way)
}

// settleSenderField does the same for the Sender field: programs show it as the one who
// really sent. One that cannot be read names nobody who may.
func settleSenderField(m *message.Message, way Way) error {
	if way.Policy == Keep || !m.Has("Sender") {
		return nil
	}
	named, err := m.Sender()
	foreign := slices.IndexFunc(named, func(b message.Mailbox) bool { return !way.permits(b.Address) })
	switch {
	case err == nil && foreign < 0:
		return nil
	case way.Policy != Refuse:
		m.Remove("Sender")
		return nil
	case err != nil:
		return addressFault(err)
	}
	return notPermitted(way, named[foreign].Address)
}

// settleResent does the same for who resends a message, as mutt's bounce does: programs
// show that name too. Complete has put a Resent-From into each such block.
func settleResent(m *message.Message, way Way) error {
	if way.Policy == Keep {
		return nil
	}
	judged := func(boxes []message.Mailbox, err error) error {
		if i := slices.IndexFunc(boxes, func(b message.Mailbox) bool { return !way.permits(b.Address) }); i >= 0 {
			return notPermitted(way, boxes[i].Address)
		}
		if err != nil {
			return addressFault(err)
		}
		return nil
	}
	author, sender := judged(m.ResentFrom()), judged(m.ResentSender())
	switch {
	case way.Policy == Refuse:
		return cmp.Or(author, sender)
	case author != nil:
		if err := m.RewriteResentFrom(way.Address); err != nil {
			return readFault(err)
		}
	case sender != nil:
		m.RemoveResentSender()
	}
	return nil
}

// settleSender is the envelope sender. The null sender is nobody's and stays.
func (s *Sender) settleSender(m *message.Message, way Way, own string, sender *string) (string, error) {
	switch {
	case sender == nil:
		authors, err := m.From()
		if err == nil && len(authors) > 0 && way.permits(authors[0].Address) {
			return authors[0].Address, nil
		}
		return own, nil
	case *sender == "":
		return "", nil
	}
	address := *sender
	if local := s.localName(address); !strings.Contains(local, "@") {
		address = local + "@" + s.domain()
	}
	switch {
	case way.Policy == Keep || way.permits(address):
		return address, nil
	case way.Policy == Refuse:
		return "", notPermitted(way, address)
	}
	return way.Address, nil
}

func notPermitted(way Way, address string) error {
	return cli.Faultf(cli.NoPerm, fmt.Sprintf("add it to senders in [account.%q], or set sender = \"rewrite\" there", way.Account),
		"%s may not send as %s", cli.Line(way.Account), cli.Line(address))
}

func (w Way) permits(address string) bool {
	for _, permitted := range append(slices.Clip(w.Senders), w.Address) {
		if strings.HasPrefix(permitted, "@") {
			if at := strings.LastIndexByte(address, '@'); at > 0 && strings.EqualFold(address[at:], permitted) {
				return true
			}
		} else if strings.EqualFold(permitted, address) { // as the providers compare their own
			return true
		}
	}
	return false
}

// way chooses the way out: the one asked for, the configured one, the send-only one
// that owns the author, the only send-only one. A right that could read the mailbox
// is used only when it is asked for.
func (s *Sender) way(asked string, authors []message.Mailbox, sender *string) (Way, error) {
	if asked == "" {
		asked = s.Default
	}
	if asked != "" {
		i := slices.IndexFunc(s.Ways, func(w Way) bool { return w.Account == asked })
		if i < 0 {
			return Way{}, cli.Faultf(cli.Config, "letterlock accounts lists the accounts there are", "there is no account %q to send with", cli.Line(asked))
		}
		return s.Ways[i], nil
	}
	var narrow []Way
	for _, w := range s.Ways {
		if w.SendOnly {
			narrow = append(narrow, w)
		}
	}
	for _, w := range narrow {
		if len(authors) > 0 && w.permits(authors[0].Address) || sender != nil && w.permits(*sender) {
			return w, nil
		}
	}
	switch {
	case len(narrow) == 1:
		return narrow[0], nil
	case len(narrow) > 1:
		return Way{}, cli.Faultf(cli.Config, "set account = \"NAME\" in [queue], or call sendmail with --account NAME", "several accounts can send, and the sender is none of theirs")
	case len(s.Ways) > 0:
		return Way{}, cli.Faultf(cli.Config, "letterlock login "+s.Ways[0].Address+" --account send --send-only makes a narrow one; account = \"NAME\" in [queue] lets a wide one send",
			"no account has a right that can only send")
	}
	return Way{}, cli.Faultf(cli.Config, "letterlock login ADDRESS --send-only", "there is no account to send with")
}

func parseList(texts []string) ([]string, error) {
	var out []string
	for _, text := range texts {
		addresses, err := message.ParseAddresses(text)
		if err != nil {
			return nil, addressFault(err)
		}
		out = append(out, addresses...)
	}
	return out, nil
}

func parseSender(text *string) (*string, error) {
	if text == nil {
		return nil, nil
	}
	address, err := message.ParseSender(*text)
	if err != nil {
		return nil, addressFault(err)
	}
	return &address, nil
}

func addressFault(err error) error {
	return cli.Wrap(cli.NoUser, err, "nothing was queued: correct the address")
}

// readFault tells bytes that are no message from a standard input that broke.
func readFault(err error) error {
	var address *message.AddressError
	switch {
	case errors.Is(err, message.ErrNUL), errors.Is(err, message.ErrTooLarge):
		return cli.Wrap(cli.DataError, err, "nothing was queued")
	case errors.As(err, &address):
		return addressFault(err)
	}
	return cli.Wrap(cli.TempFail, fmt.Errorf("read the message: %w", err), "nothing was queued: try again")
}

func ascii(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > 126 })
}

// Caller says who runs this process: login name and the name shown for it. Without
// an entry in the user database, as in some containers, fallback is used.
func Caller(fallback string) (login, name string) {
	me, err := user.Current()
	if err != nil || me.Username == "" {
		return fallback, ""
	}
	return me.Username, NameOf(me)
}

// NameOf is the name shown for a user. The GECOS field has it before the first comma; &
// stands for the login.
func NameOf(who *user.User) string {
	name, _, _ := strings.Cut(who.Name, ",")
	if name != "" && who.Username != "" {
		capital := strings.ToUpper(who.Username[:1]) + who.Username[1:]
		name = strings.ReplaceAll(name, "&", capital)
	}
	return name
}

// Where says to which addresses mail for text would go.
func (s *Sender) Where(text string, noAliases bool) ([]string, error) {
	addresses, err := message.ParseAddresses(text)
	if err != nil {
		return nil, addressFault(err)
	}
	return s.Resolve(addresses, noAliases)
}
