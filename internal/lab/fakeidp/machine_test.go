package fakeidp

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// forge signs claims with headers of a test's own.
func forge(t *testing.T, key *rsa.PrivateKey, algorithm jose.SignatureAlgorithm, headers map[jose.HeaderKey]any, claims map[string]any) string {
	t.Helper()
	options := &jose.SignerOptions{ExtraHeaders: headers}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := json.Marshal(claims)
	signed, err := signer.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func changed(base map[string]any, pairs ...any) map[string]any {
	out := map[string]any{}
	for k, v := range base {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestGoogleRefusesMachines(t *testing.T) {
	s := &stand{t: t, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	g := NewGoogle(s.clock)
	s.idp = g
	key, other := rsaKey(t), rsaKey(t)
	const robot, off = "robot@p.iam.gserviceaccount.com", "off@p.iam.gserviceaccount.com"
	keys := map[string]crypto.PublicKey{"k1": key.Public()}
	g.Machines[robot] = &ServiceAccount{Keys: keys, Delegated: map[string][]string{"corp.example": {GoogleMail}}}
	g.Machines[off] = &ServiceAccount{Keys: keys, Disabled: true}
	g.People["ann@corp.example"] = &GooglePerson{Workspace: "corp.example"}
	good := map[string]any{"iss": robot, "sub": "ann@corp.example", "aud": "https://oauth2.googleapis.com/token", "scope": GoogleMail, "iat": s.now.Unix(), "exp": s.now.Unix() + 3600}
	post := func(text string) int {
		return s.post("https://oauth2.googleapis.com/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {text}})
	}
	kid := map[jose.HeaderKey]any{"kid": "k1"}
	if post(forge(t, key, jose.RS256, kid, good)) != 200 || s.field("refresh_token") != "" {
		t.Fatalf("a good assertion: %s", s.last)
	}
	if who, err := g.Check(s.field("access_token"), GoogleMail); err != nil || who != "ann@corp.example" {
		t.Errorf("%q, %v", who, err)
	}
	for _, bad := range []struct{ name, text string }{
		{"assertion-malformed", "no JWT"}, {"assertion-malformed", forge(t, key, jose.PS256, kid, good)},
		{"assertion-account", forge(t, key, jose.RS256, kid, changed(good, "iss", "x"))}, {"assertion-disabled", forge(t, key, jose.RS256, kid, changed(good, "iss", off))},
		{"assertion-signature", forge(t, other, jose.RS256, kid, good)}, {"assertion-signature", forge(t, key, jose.RS256, nil, good)},
		{"assertion-audience", forge(t, key, jose.RS256, kid, changed(good, "aud", "https://accounts.google.com"))},
		{"assertion-time", forge(t, key, jose.RS256, kid, changed(good, "exp", s.now.Unix()+7200))}, {"assertion-time", forge(t, key, jose.RS256, kid, changed(good, "exp", s.now.Unix()-1))},
		{"assertion-time", forge(t, key, jose.RS256, kid, changed(good, "iat", s.now.Unix()+3000))},
		{"assertion-subject", forge(t, key, jose.RS256, kid, changed(good, "sub", "nobody@corp.example"))},
		{"assertion-scope", forge(t, key, jose.RS256, kid, changed(good, "scope", "mail"))}, {"assertion-delegation", forge(t, key, jose.RS256, kid, changed(good, "scope", GmailSend))},
	} {
		before := g.Fired()
		post(bad.text)
		s.expect(bad.name, before)
	}
	for _, name := range g.MachineRefusals() {
		if g.Fired()[name] == 0 {
			t.Errorf("refusal %s never fired", name)
		}
	}
}

func TestMicrosoftRefusesMachines(t *testing.T) {
	s := &stand{t: t, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	m := NewMicrosoft(s.clock, PublicCloud())
	s.idp = m
	const dir, scope = "11111111-2222-4333-8444-555555555555", "https://outlook.office365.com/.default"
	m.Tenants[dir] = dir
	key, other := rsaKey(t), rsaKey(t)
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	x5t := map[jose.HeaderKey]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}
	m.Clients["app"] = &MicrosoftClient{Audience: "all", Certificates: []*x509.Certificate{certificate}, Roles: []string{"IMAP.AccessAsApp"}}
	m.Clients["secret"] = &MicrosoftClient{Audience: "all", Secret: "S", Roles: []string{"SMTP.SendAsApp"}}
	m.Clients["public"] = &MicrosoftClient{Audience: "all"}
	token := "https://login.microsoftonline.com/" + dir + "/oauth2/v2.0/token"
	good := map[string]any{"iss": "app", "sub": "app", "aud": token, "jti": "1", "iat": s.now.Unix(), "nbf": s.now.Unix(), "exp": s.now.Unix() + 300}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"app"}, "scope": {scope},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {forge(t, key, jose.PS256, x5t, good)}}
	if s.post(token, form) != 200 || s.field("refresh_token") != "" {
		t.Fatalf("a good assertion: %s", s.last)
	}
	if who, err := m.Check(s.field("access_token"), "https://outlook.office365.com/IMAP.AccessAsApp"); err != nil || who != "app:app" {
		t.Errorf("%q, %v", who, err)
	}
	bySecret := url.Values{"grant_type": {"client_credentials"}, "client_id": {"secret"}, "client_secret": {"S"}, "scope": {scope}}
	if s.post(token, bySecret) != 200 {
		t.Fatalf("a good secret: %s", s.last)
	}
	assert := func(text string) url.Values { return with(form, "client_assertion", text) }
	for _, bad := range []struct {
		name, at string
		form     url.Values
	}{
		{"50059", "https://login.microsoftonline.com/organizations/oauth2/v2.0/token", bySecret}, {"7000218", token, url.Values{"grant_type": {"client_credentials"}, "client_id": {"public"}, "scope": {scope}}},
		{"1002012", token, with(bySecret, "scope", "https://outlook.office.com/IMAP.AccessAsUser.All")}, {"1002012", token, with(bySecret, "scope", scope+" offline_access")},
		{"700027", token, assert("x")}, {"700027", token, assert(forge(t, key, jose.PS256, nil, good))}, {"700027", token, assert(forge(t, other, jose.PS256, x5t, good))},
		{"700027", token, with(form, "client_assertion_type", "saml")},
		{"700021", token, assert(forge(t, key, jose.RS256, x5t, changed(good, "sub", "other")))}, {"700023", token, assert(forge(t, key, jose.RS256, x5t, changed(good, "aud", "https://login.microsoftonline.com/")))},
		{"700024", token, assert(forge(t, key, jose.RS256, x5t, changed(good, "exp", s.now.Unix()-1)))}, {"700024", token, assert(forge(t, key, jose.RS256, x5t, changed(good, "nbf", s.now.Unix()+3000)))},
		{"700025", token, with(form, "client_id", "public")}, {"7000215", token, with(bySecret, "client_secret", "x")},
	} {
		before := m.Fired()
		s.post(bad.at, bad.form)
		s.expect(bad.name, before)
	}
	for _, name := range m.MachineRefusals() {
		if m.Fired()[name] == 0 {
			t.Errorf("refusal %s never fired", name)
		}
	}
}
