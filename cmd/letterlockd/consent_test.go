package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// What a program is allowed lasts as an app password does, so it takes the same proof: a
// fresh one, by the second factor of who has one, wherever the browser stands.
func TestConsentWantsProof(t *testing.T) {
	h := newHall(t, "[factors]\ntrusted_networks = [\"127.0.0.0/8\", \"::1\"]\n[oauth]\nopen_client = true\n")
	_, conf := h.peer("open", "", "imap", "smtp")
	consent := conf.AuthCodeURL("st", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))
	v := h.visitor()
	v.github().want(200, "/").get(consent).want(200, "/authorize") // no factor: a fresh sign-in will do
	seed := v.app()
	v.get(consent).want(200, "/signin/again")

	v = h.visitor()
	v.github().want(200, "/") // from the trusted network: the provider's word alone
	v.get(consent).want(200, "/signin/again").send("/signin/again", "code", h.wrong(seed)).want(403, "/signin/again")
	v.send("/signin/again", "code", h.code(seed)).want(200, "/authorize")
	h.later += 20 * time.Minute // the page was left open
	v.send("/consent", "decision", "allow").want(200, "/signin/again")
	v.send("/signin/again", "code", h.code(seed)).want(200, "/authorize")

	user := h.userCode()
	h.later += 9 * time.Minute
	w := h.visitor()
	w.github().want(200, "/").get("/device?user_code="+user).want(200, "/signin/again")
	w.send("/signin/again", "code", h.code(seed)).want(200, "/device", user)

	user = h.userCode()
	v.get("/device?user_code="+user).want(200, "/device", user)
	v.send("/device", "user_code", user).want(200, "/device", "Is this your device?")
	h.later += 7 * time.Minute // sixteen since the proof
	v.send("/device/decide", "decision", "allow").want(200, "/signin/again")
	p, _, _ := h.person("ann@example.org")
	if grants, err := h.p.db.GrantsOf(t.Context(), p.ID); err != nil || len(grants) != 0 {
		t.Errorf("allowed without a proof: %+v, %v", grants, err)
	}
	v.send("/signin/again", "code", h.code(seed)).want(200, "/device", user)
	v.send("/device", "user_code", user).want(200, "/device").send("/device/decide", "decision", "allow").want(200, "/device/done")
}

// userCode has a device begin.
func (h *hall) userCode() string {
	h.t.Helper()
	res, err := http.PostForm(h.public+"/device_authorization", url.Values{"client_id": {"open"}, "scope": {"imap"}})
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var begun struct {
		UserCode string `json:"user_code"`
	}
	if err := json.NewDecoder(res.Body).Decode(&begun); err != nil || begun.UserCode == "" {
		h.t.Fatalf("device: %s, %v", res.Status, err)
	}
	return begun.UserCode
}
