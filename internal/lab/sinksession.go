package lab

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// sinkSession is one connection to a Sink.
type sinkSession struct {
	sink *Sink
	conn *smtp.Conn
	d    Delivered
}

func newSinkSession(s *Sink, c *smtp.Conn) *sinkSession { return &sinkSession{sink: s, conn: c} }

// AuthMechanisms implements smtp.AuthSession.
func (s *sinkSession) AuthMechanisms() []string {
	if s.sink.options.Check == nil {
		return nil
	}
	return s.sink.options.Mechanisms
}

// Auth implements smtp.AuthSession.
func (s *sinkSession) Auth(mechanism string) (sasl.Server, error) {
	if !slices.Contains(s.AuthMechanisms(), mechanism) {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return &tokenServer{session: s, mechanism: mechanism}, nil
}

func (s *sinkSession) refuse(stage, address string) error {
	if s.sink.options.Refuse == nil {
		return nil
	}
	return s.sink.options.Refuse(stage, address)
}

// Mail implements smtp.Session.
func (s *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.sink.options.Check != nil && s.d.User == "" {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	}
	s.d.From = from
	return s.refuse("mail", from)
}

// Rcpt implements smtp.Session.
func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.refuse("rcpt", to); err != nil {
		return err
	}
	s.d.To = append(s.d.To, to)
	return nil
}

// Data implements smtp.Session.
func (s *sinkSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := s.refuse("data", s.d.From); err != nil {
		return err
	}
	d := s.d
	d.Data, d.To = data, slices.Clone(s.d.To)
	_, d.TLS = s.conn.TLSConnectionState()
	s.sink.take(d)
	return nil
}

// Reset implements smtp.Session.
func (s *sinkSession) Reset() { s.d.From, s.d.To = "", nil }

// Logout implements smtp.Session.
func (s *sinkSession) Logout() error { return nil }

// tokenServer is the server's half of XOAUTH2 and OAUTHBEARER. It is written
// apart from internal/sasl on purpose: a far end must not share our mistakes.
type tokenServer struct {
	session   *sinkSession
	mechanism string
	refused   bool
}

// Next implements sasl.Server.
func (t *tokenServer) Next(response []byte) ([]byte, bool, error) {
	if t.refused {
		// RFC 7628 section 3.2.3: whatever the client answers to the error, the
		// exchange has failed. go-sasl's error would be turned into 454.
		return nil, true, smtp.ErrAuthFailed
	}
	if response == nil {
		return []byte{}, false, nil // no initial response: ask with an empty 334
	}
	user, token, ok := parseBearer(t.mechanism, response)
	if !ok {
		t.session.sink.countRefused()
		return nil, true, &smtp.SMTPError{Code: 501, EnhancedCode: smtp.EnhancedCode{5, 5, 2}, Message: "Cannot decode response"}
	}
	if !t.session.sink.options.Check(user, token) {
		t.refused = true
		t.session.sink.countRefused()
		return []byte(t.session.sink.options.Challenge), false, nil
	}
	t.session.d.User, t.session.d.Mechanism = user, t.mechanism
	return nil, true, nil
}

// parseBearer reads a client's message strictly, as the mechanism's text has it.
func parseBearer(mechanism string, message []byte) (user, token string, ok bool) {
	parts := bytes.Split(message, []byte{1})
	// Both end with two ^A, so the last two parts are empty.
	if len(parts) < 4 || len(parts[len(parts)-1]) != 0 || len(parts[len(parts)-2]) != 0 {
		return "", "", false
	}
	first := string(parts[0])
	switch mechanism {
	case "XOAUTH2":
		user, ok = strings.CutPrefix(first, "user=")
	case "OAUTHBEARER":
		// RFC 7628 section 3.1: a GS2 header, here "n,a=USER,".
		user, ok = strings.CutPrefix(first, "n,a=")
		if ok {
			user, ok = strings.CutSuffix(user, ",")
		}
		user = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(user)
	}
	if !ok || user == "" {
		return "", "", false
	}
	for _, p := range parts[1 : len(parts)-2] {
		if t, found := strings.CutPrefix(string(p), "auth=Bearer "); found {
			token = t
		}
	}
	return user, token, token != ""
}
