package authserver

import (
	"context"
	"errors"
	"net/http"

	"github.com/letterlock-mail/letterlock/internal/server/identity"
	"github.com/letterlock-mail/letterlock/internal/server/web"
)

// devicePage shows the form for the code. A code in the address is only filled in: a
// look-up here would let any site that a person visits try codes in their name.
func (s *Server) devicePage(w http.ResponseWriter, r *http.Request) {
	session, ok := s.SignIn.SignedIn(r)
	typed, _, err := parseParams(r.URL.RawQuery)
	if err != nil {
		typed = nil
	}
	userCode, _ := normalUserCode(typed["user_code"])
	if !ok {
		s.SignIn.Begin(w, r, s.devicePath(userCode))
		return
	}
	if _, err := s.activePerson(r, session); err != nil {
		s.answerFault(w, r, err)
		return
	}
	if session.Unproved {
		s.prove(w, r, s.devicePath(userCode))
		return
	}
	s.askUserCode(w, http.StatusOK, userCode, "")
}

// devicePath is the page with a normal code filled in, or none.
func (s *Server) devicePath(userCode string) string {
	if userCode == "" {
		return s.path + "/device"
	}
	return s.path + "/device?user_code=" + userCode
}

func (s *Server) askUserCode(w http.ResponseWriter, status int, userCode, trouble string) {
	deviceEntryPage().Show(w, status, deviceView{Action: s.path + "/device", UserCode: userCode, Trouble: trouble})
}

// deviceEntered shows who asks and from where: the person must be able to see that
// it is not their device that asks (RFC 8628 section 5.4).
func (s *Server) deviceEntered(w http.ResponseWriter, r *http.Request) {
	in, ok := pageForm(w, r)
	if !ok {
		return
	}
	session, ok := s.SignIn.SignedIn(r)
	if !ok {
		s.SignIn.Begin(w, r, s.path+"/device")
		return
	}
	person, err := s.activePerson(r, session)
	if err != nil {
		s.answerFault(w, r, err)
		return
	}
	userCode, request, ok := s.findDevice(w, r, session, in["user_code"])
	if !ok {
		return
	}
	client, err := s.client(r.Context(), string(request.Client))
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		s.answerFault(w, r, err)
		return
	}
	if err != nil {
		s.askUserCode(w, http.StatusBadRequest, "", "This program is not known here any more.")
		return
	}
	deviceConfirmPage().Show(w, http.StatusOK, deviceView{
		Action: s.path + "/device/decide", Address: person.Address, UserCode: userCode, Client: client,
		From: request.From, When: request.Created.UTC().Format("15:04:05 UTC"), Lines: scopeLines(request.Scopes),
		OfferSendOnly: canSend(request.Scopes), Token: s.formKey.Token(session.ID, "device", userCode),
	})
}

// findDevice looks a typed code up, within the limits on guessing. When it answers
// false the page has been shown.
func (s *Server) findDevice(w http.ResponseWriter, r *http.Request, session Session, typed string) (string, identity.DeviceRequest, bool) {
	now := s.Now()
	by := []guesser{{"person " + string(session.Person), personLimit}, {"network " + s.remote(r), networkLimit}}
	if !s.takeGuess(r, now, by) {
		s.Log.Warn("device codes guessed", "person", session.Person, "network", s.remote(r))
		s.askUserCode(w, http.StatusTooManyRequests, "", "Too many wrong codes. Wait ten minutes.")
		return "", identity.DeviceRequest{}, false
	}
	userCode, ok := normalUserCode(typed)
	var request identity.DeviceRequest
	err := identity.ErrNotFound
	if ok {
		request, err = s.Devices.FindDevice(r.Context(), userCodeDigest(userCode), now)
	}
	switch {
	case errors.Is(err, identity.ErrNotFound) || err == nil && request.State != identity.DevicePending:
		s.askUserCode(w, http.StatusBadRequest, "", "No device waits under this code. Codes are valid for ten minutes and once.")
		return "", request, false
	case err != nil:
		s.giveGuessBack(r, now, by)
		s.answerFault(w, r, err)
		return "", request, false
	}
	s.giveGuessBack(r, now, by)
	return userCode, request, true
}

// deviceDecided takes the person's answer.
func (s *Server) deviceDecided(w http.ResponseWriter, r *http.Request) {
	in, ok := pageForm(w, r)
	if !ok {
		return
	}
	session, ok := s.SignIn.SignedIn(r)
	if !ok || !s.formKey.Valid(in["token"], session.ID, "device", in["user_code"]) {
		web.Fault(w, http.StatusForbidden, "This form is not from your current session.", "Type the device's code again.")
		return
	}
	if _, err := s.activePerson(r, session); err != nil {
		s.answerFault(w, r, err)
		return
	}
	userCode, request, ok := s.findDevice(w, r, session, in["user_code"])
	if !ok {
		return
	}
	allow := in["decision"] == "allow"
	if allow && session.Unproved {
		s.prove(w, r, s.devicePath(userCode))
		return
	}
	if err := s.decideDevice(r, session, request, allow, in["limit"] == ScopeSendOnly); err != nil {
		s.answerFault(w, r, err)
		return
	}
	where := s.path + "/device/done"
	if allow {
		where += "?allowed"
	}
	http.Redirect(w, r, where, http.StatusSeeOther)
}

func (s *Server) decideDevice(r *http.Request, session Session, request identity.DeviceRequest, allow, sendOnly bool) error {
	var grant *identity.Grant
	if allow {
		scopes := request.Scopes
		if sendOnly && canSend(scopes) {
			scopes = onlySend(scopes)
		}
		made, err := s.newGrant(session, identity.Client{ID: request.Client}, scopes)
		if err != nil {
			return err
		}
		grant = &made
	}
	client, _ := s.Named(r.Context(), request.Client)
	err := s.together(r.Context(), func(ctx context.Context) error {
		if err := s.Devices.DecideDevice(ctx, request.Digest, session.At, grant); err != nil || grant == nil {
			return err
		}
		return s.noteGrant(ctx, r, *grant, client)
	})
	if errors.Is(err, identity.ErrDecided) {
		return &pageError{"This device was decided on already.", ""}
	}
	if err == nil {
		s.Log.Info("device decided", "person", session.Person, "client", request.Client, "from", request.From, "allowed", allow)
	}
	return err
}

func (s *Server) deviceDone(w http.ResponseWriter, r *http.Request) {
	deviceDonePage().Show(w, http.StatusOK, r.URL.RawQuery == "allowed")
}
