package provider

import (
	"net/url"

	"github.com/letterlock-mail/letterlock/internal/oauth"
)

// fastmail asks for the resource (RFC 8707) in every request and refuses before the
// consent page without it. Its registration endpoint is open to private-use redirect
// schemes only, which a program on a desktop has no use for.
func fastmail() Provider {
	return Provider{
		Name: "fastmail", Title: "Fastmail",
		Domains: []string{"fastmail.com", "fastmail.fm", "fastmail.net", "fastmail.org", "fastmail.de", "fastmail.co.uk", "fastmail.jp", "fastmail.us", "sent.com", "messagingengine.com", "pobox.com"},
		MX:      []string{"messagingengine.com"},
		Endpoints: oauth.Endpoints{
			Issuer:        "https://api.fastmail.com",
			Authorization: "https://api.fastmail.com/oauth/authorize",
			Token:         "https://api.fastmail.com/oauth/refresh", // for codes too
			Revocation:    "https://api.fastmail.com/oauth/revoke",
		},
		Auth:     oauth.AuthNone,
		Redirect: Redirect{URI: "http://localhost/", AnyPort: true}, // documented without a word on ports
		Flows:    []Flow{FlowBrowser, FlowPaste},
		Resources: []Resource{{
			Name:      "mail",
			Purposes:  []Purpose{IMAP, POP3, SMTP, Send},
			Indicator: "https://api.fastmail.com/jmap/session",
			Scopes: map[Right][]string{
				Full:     {"urn:ietf:params:oauth:scope:mail", "offline_access"},
				SendOnly: {"https://www.fastmail.com/dev/protocol-smtp", "offline_access"}, // the older scopes, one per protocol
			},
		}},
		IMAP:       MailServer{"imap.fastmail.com", 993, ImplicitTLS},
		POP3:       MailServer{"pop.fastmail.com", 995, ImplicitTLS},
		SMTP:       MailServer{"smtp.fastmail.com", 465, ImplicitTLS},
		Mechanisms: []string{"OAUTHBEARER", "XOAUTH2"},
		Registration: Registration{
			Links: []string{"https://www.fastmail.com/developer/oauth/"},
			Steps: []string{
				"Fastmail registers clients by hand: write to them as the page says.",
				"Name the redirect URI {redirect} and the scopes {scopes}.",
				"They answer with a client id. Until then an app password (Settings, Privacy & Security, Integrations) for one protocol is what remains.",
			},
		},
		RevokePage: "https://app.fastmail.com/settings/security/connectedapps",
		Rotates:    true, // seen by other clients: an old token used again ends the grant
		Lifetimes:  []Lifetime{{Rule: "a refresh token that is used a second time ends the grant"}},
	}
}

// thundermail is Mozilla's service: Keycloak in front of Stalwart.
func thundermail() Provider {
	return Provider{
		Name: "thundermail", Title: "Thundermail",
		Domains: []string{"thundermail.com", "tb.pro"},
		MX:      []string{"thundermail.com"},
		Endpoints: oauth.Endpoints{
			Issuer:        "https://auth.tb.pro/realms/tbpro",
			Authorization: "https://auth.tb.pro/realms/tbpro/protocol/openid-connect/auth",
			Token:         "https://auth.tb.pro/realms/tbpro/protocol/openid-connect/token",
		},
		Discover: true,
		Auth:     oauth.AuthNone,
		Redirect: Redirect{URI: "http://127.0.0.1", AnyPort: true}, // for a client of one's own; not verified
		Flows:    []Flow{FlowBrowser, FlowDevice, FlowPaste},
		Resources: []Resource{{
			Name:     "mail",
			Purposes: []Purpose{IMAP, SMTP, Send},
			Scopes:   map[Right][]string{Full: {"openid", "profile", "email", "offline_access"}},
		}},
		IMAP:       MailServer{"mail.thundermail.com", 993, ImplicitTLS},
		SMTP:       MailServer{"mail.thundermail.com", 465, ImplicitTLS},
		Mechanisms: []string{"OAUTHBEARER", "XOAUTH2"},
		Registration: Registration{
			None:  "Thundermail gives client ids to Mozilla's own programs only; one for everybody was being discussed in 2026. What remains: an app password from the account page",
			Links: []string{"https://accounts.tb.pro/"},
		},
		RevokePage: "https://auth.tb.pro/realms/tbpro/account/",
		Rotates:    true, // Keycloak's choice; not verified
	}
}

// yandex shows the code on a page of its own to be pasted. Its device flow is not
// RFC 8628 (the grant type and the name of the code differ), so it is not offered.
func yandex() Provider {
	return Provider{
		Name: "yandex", Title: "Yandex",
		Domains: []string{"yandex.com", "yandex.ru", "yandex.by", "yandex.kz", "yandex.ua", "ya.ru", "narod.ru"},
		MX:      []string{"mx.yandex.ru", "mx.yandex.net"},
		Endpoints: oauth.Endpoints{
			Authorization: "https://oauth.yandex.com/authorize",
			Token:         "https://oauth.yandex.com/token",
		},
		Auth: oauth.AuthBasic, NeedsSecret: true,
		Redirect: Redirect{URI: "https://oauth.yandex.com/verification_code", Fixed: true},
		Flows:    []Flow{FlowPaste},
		Params:   url.Values{"force_confirm": {"yes"}},
		Resources: []Resource{{
			Name:     "mail",
			Purposes: []Purpose{IMAP, SMTP, Send},
			Scopes: map[Right][]string{
				Full:     {"mail:imap_full", "mail:smtp"},
				SendOnly: {"mail:smtp"},
			},
		}},
		IMAP:       MailServer{"imap.yandex.com", 993, ImplicitTLS},
		POP3:       MailServer{"pop.yandex.com", 995, ImplicitTLS},
		SMTP:       MailServer{"smtp.yandex.com", 465, ImplicitTLS},
		Mechanisms: []string{"XOAUTH2"},
		Registration: Registration{
			Links: []string{"https://oauth.yandex.com/client/new"},
			Steps: []string{
				"Create an app; platform Web services, redirect URI {redirect} (the page offers it as the one for debugging).",
				"Under data access choose: {scopes}.",
				"Copy ClientID and Client secret.",
				"In Yandex Mail switch on access by IMAP for mail clients (Settings, Email clients).",
			},
		},
		RevokePage: "https://id.yandex.com/personal/data-access",
		Rotates:    true,
		Lifetimes:  []Lifetime{{Rule: "refresh tokens live as long as access tokens, about a year, and each refresh returns a new one", Days: 365}},
	}
}

// mailru publishes a client for everybody with a redirect to https://localhost; it is
// not used here, like any other borrowed id. Thunderbird sends mail with the IMAP scope.
func mailru() Provider {
	return Provider{
		Name: "mailru", Title: "Mail.ru",
		Domains: []string{"mail.ru", "inbox.ru", "list.ru", "bk.ru", "internet.ru", "xmail.ru"},
		MX:      []string{"mxs.mail.ru", "emx.mail.ru"},
		Endpoints: oauth.Endpoints{
			Authorization: "https://o2.mail.ru/login",
			Token:         "https://o2.mail.ru/token",
			UserInfo:      "https://oauth.mail.ru/userinfo",
		},
		Auth: oauth.AuthBasic, NeedsSecret: true,
		Redirect: Redirect{URI: "https://localhost", Fixed: true},
		Flows:    []Flow{FlowPaste},
		Resources: []Resource{{
			Name:     "mail",
			Purposes: []Purpose{IMAP, POP3, SMTP, Send},
			Scopes:   map[Right][]string{Full: {"userinfo", "mail.imap"}},
		}},
		IMAP:       MailServer{"imap.mail.ru", 993, ImplicitTLS},
		POP3:       MailServer{"pop.mail.ru", 995, ImplicitTLS},
		SMTP:       MailServer{"smtp.mail.ru", 465, ImplicitTLS},
		Mechanisms: []string{"XOAUTH2"},
		Registration: Registration{
			Links: []string{"https://o2.mail.ru/app/"},
			Steps: []string{
				"Create an app with the redirect URI {redirect}.",
				"Choose the scopes {scopes}.",
				"Copy the client id and the client secret.",
				"After consent the browser ends on a page that cannot be opened: paste its address.",
			},
		},
		RevokePage: "https://account.mail.ru/user/2-step-auth/passwords",
	}
}

// zoho's tokens open its REST API. Whether its IMAP and SMTP servers take them from any
// app nobody has shown; so no resource is listed.
func zoho() Provider {
	return Provider{
		Name: "zoho", Title: "Zoho Mail",
		Domains: []string{"zoho.com", "zohomail.com", "zohomail.eu", "zohomail.in", "zoho.eu", "zoho.in"},
		MX:      []string{"zoho.com", "zoho.eu", "zoho.in", "zoho.com.au", "zoho.jp"},
		Endpoints: oauth.Endpoints{
			Authorization: "https://accounts.zoho.com/oauth/v2/auth",
			Token:         "https://accounts.zoho.com/oauth/v2/token",
			Revocation:    "https://accounts.zoho.com/oauth/v2/token/revoke",
		},
		Auth: oauth.AuthPost, NeedsSecret: true,
		Redirect:   Redirect{URI: "http://localhost", Fixed: true},
		Params:     url.Values{"access_type": {"offline"}, "prompt": {"consent"}},
		IMAP:       MailServer{"imap.zoho.com", 993, ImplicitTLS},
		POP3:       MailServer{"pop.zoho.com", 995, ImplicitTLS},
		SMTP:       MailServer{"smtp.zoho.com", 465, ImplicitTLS},
		Mechanisms: []string{"PLAIN"},
		Registration: Registration{
			None:  "Zoho's OAuth is for its web API; its IMAP and SMTP servers are not known to take tokens. What remains: an app-specific password from the account page, one per program",
			Links: []string{"https://accounts.zoho.com/home#security/app_password"},
		},
		RevokePage: "https://accounts.zoho.com/home#sessions/connectedapps",
		Lifetimes:  []Lifetime{{Rule: "the oldest of over 20 refresh tokens per user ends"}},
	}
}
