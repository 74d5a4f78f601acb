package provider

import (
	"net/url"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// google is Gmail and Google Workspace: one set of endpoints, told apart only by who
// administers the account.
//
// Its device flow has a list of scopes of its own, on which mail is not, so it is not
// offered (invalid_scope). A desktop client has a secret that Google's documentation
// calls not confidential, and the token endpoint asks for it all the same. Refresh
// tokens do not change; prompt=consent makes sure that a second sign-in gets one too.
func google() Provider {
	return Provider{
		Name: "google", Title: "Google",
		Domains: []string{"gmail.com", "googlemail.com"},
		MX:      []string{"google.com", "googlemail.com", "psmtp.com"},
		Endpoints: oauth.Endpoints{
			Issuer:        "https://accounts.google.com",
			Authorization: "https://accounts.google.com/o/oauth2/v2/auth", // the one without v2 answers "app is blocked"
			Token:         "https://oauth2.googleapis.com/token",
			Revocation:    "https://oauth2.googleapis.com/revoke",
			UserInfo:      "https://openidconnect.googleapis.com/v1/userinfo",
			JWKS:          "https://www.googleapis.com/oauth2/v3/certs",
		},
		Auth: oauth.AuthPost, NeedsSecret: true,
		Redirect:  Redirect{URI: "http://127.0.0.1", AnyPort: true},
		Flows:     []Flow{FlowBrowser, FlowPaste, FlowAssertion},
		Params:    url.Values{"access_type": {"offline"}, "prompt": {"consent"}},
		Resources: googleResources(),
		IMAP:      MailServer{"imap.gmail.com", 993, ImplicitTLS},
		POP3:      MailServer{"pop.gmail.com", 995, ImplicitTLS},
		SMTP:      MailServer{"smtp.gmail.com", 465, ImplicitTLS},
		Mechanisms: []string{
			"XOAUTH2", "OAUTHBEARER",
		},
		Registration: googleRegistration(),
		RevokePage:   "https://myaccount.google.com/connections",
		Lifetimes: []Lifetime{
			{Rule: "refresh tokens of an external app in Testing end 7 days after sign-in", Days: 7, When: "the consent screen is External and in Testing"},
			{Rule: "refresh tokens end after 6 months without use", Days: 180, Idle: true},
			{Rule: "a change of the Google password ends tokens that may use mail"},
			{Rule: "the oldest of over 100 live refresh tokens per account and client ends"}, // number not verified in 2026
			{Rule: "session control of a Workspace ends tokens", When: "the administrator has set it"},
		},
	}
}

func googleResources() []Resource {
	return []Resource{
		{
			Name:     "mail",
			Purposes: []Purpose{IMAP, POP3, SMTP, Send},
			// The mail scope is the only one for the protocols. With openid and email
			// the ID token says who signed in.
			Scopes: map[Right][]string{Full: {"https://mail.google.com/", "openid", "email"}},
		},
		{
			// gmail.send is for the Gmail API: SMTP refuses it.
			Name:     "gmail-send",
			Purposes: []Purpose{Send},
			Scopes:   map[Right][]string{SendOnly: {"https://www.googleapis.com/auth/gmail.send", "openid", "email"}},
		},
	}
}

func googleRegistration() Registration {
	return Registration{
		Links: []string{
			"https://console.cloud.google.com/projectcreate",
			"https://console.cloud.google.com/apis/library/gmail.googleapis.com",
			"https://console.cloud.google.com/auth/overview",
			"https://console.cloud.google.com/auth/clients/create",
		},
		Steps: []string{
			"Create a project, any name; it costs nothing and needs no billing.",
			"Enable the Gmail API in it.",
			"Under Google Auth Platform give the app a name and your address. Audience: Internal when your account is of a Workspace and only its members will sign in, otherwise External.",
			"Under Data access add these scopes: {scopes}",
			"External only: press Publish app under Audience. In Testing every sign-in ends after 7 days. For your own use no verification is needed: the warning page has Advanced, then Go to the app; up to 100 people may do so.",
			"Under Clients create one of type Desktop app. It takes {redirect} with any port, there is nothing to enter.",
			"Copy the client id and the client secret: Google shows the secret once.",
		},
		Admin: "Please mark this OAuth client as trusted for our users: Admin console, Security, Access and data control, API controls, App access control, Configure new app, by client id. " +
			"It asks for these scopes: {scopes}. It is a mail program on the user's own machine; no data leaves it for a third party.",
	}
}
