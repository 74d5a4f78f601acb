package config

import "strings"

// An Issuer is one [issuer.NAME] section: somebody whose access tokens open mailboxes.
type Issuer struct {
	URL              string
	Audiences        []string
	Clients          []string
	Scopes           []string // what its tokens may do here
	Need             string   // a scope that they must have
	Introspection    string
	TokenPrefix      string
	ClientID         string
	ClientSecretFile string
	CAFile           string
}

func issuerFields() []field[Issuer] {
	type i = Issuer
	return []field[i]{
		{"url", "the issuer, byte for byte as its metadata and its tokens name it", `"https://login.example.org/realms/mail"`, text(func(v *i) *string { return &v.URL }, place)},
		{"audiences", "one of these must be the audience (aud) of a token", `["mail"]`, list(func(v *i) *[]string { return &v.Audiences }, filled)},
		{"clients", "one of these must be the client (client_id, azp) that it was issued to", `["webmail"]`, list(func(v *i) *[]string { return &v.Clients }, filled)},
		{"scopes", "what its tokens may do here: imap, pop3, smtp, sieve; default: imap and smtp", `["imap", "smtp"]`, list(func(v *i) *[]string { return &v.Scopes }, oneOf("imap", "pop3", "smtp", "sieve", "send-only"))},
		{"need_scope", "a scope that a token must have; default: none", `"mail"`, text(func(v *i) *string { return &v.Need }, filled)},
		{"introspection", "the endpoint where the issuer judges its tokens; default: none, tokens are JSON Web Tokens checked by the issuer's keys", "", text(func(v *i) *string { return &v.Introspection }, place)},
		{"token_prefix", "with introspection: how the issuer's tokens begin, ory_at_ for example; where several issuers are asked it keeps the tokens of each from the others; default: none, and they are asked in turn", "", text(func(v *i) *string { return &v.TokenPrefix }, filled)},
		{"client_id", "with introspection: our client id there", "", text(func(v *i) *string { return &v.ClientID }, filled)},
		{"client_secret_file", "with introspection: a file that holds its secret on its first line", "", text(func(v *i) *string { return &v.ClientSecretFile }, absolute)},
		{"ca_file", "PEM file of further certificate authorities for the issuer", "", text(func(v *i) *string { return &v.CAFile }, absolute)},
	}
}

func (d *decoder) checkIssuerSection(path []string, one *Issuer) {
	in := inSection(path)
	if one.URL == "" || len(one.Audiences) == 0 || len(one.Clients) == 0 {
		d.fault(path, "url, audiences and clients are all needed%s: without them any token of the issuer would open mail", in)
	}
	if strings.HasSuffix(one.URL, "?") || strings.Contains(one.URL, "#") {
		d.fault(path, "url%s: an issuer has neither query nor fragment", in)
	}
	if (one.Introspection == "") != (one.ClientID == "") || (one.ClientID == "") != (one.ClientSecretFile == "") {
		d.fault(path, "introspection, client_id and client_secret_file%s belong together: one is missing", in)
	}
	if one.TokenPrefix != "" && one.Introspection == "" {
		d.fault(path, "token_prefix%s is for introspection: a JSON Web Token says itself whose it is", in)
	}
	if len(one.Scopes) == 0 {
		one.Scopes = []string{"imap", "smtp"}
	}
}
