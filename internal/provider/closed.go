package provider

import "github.com/letterlock-mail/letterlock/internal/oauth"

// yahooLike is what Yahoo and AOL share: one platform on two hosts, mail scopes for
// approved partners only. Discovery names the grants code and refresh, no device flow,
// and Basic or Post with a secret; PKCE is taken though not advertised. The redirect
// must be https, so the address is pasted.
func yahooLike(name, title, login string) Provider {
	at := "https://" + login
	return Provider{
		Name: name, Title: title,
		Endpoints: oauth.Endpoints{
			Issuer:        oauth.Issuer(at),
			Authorization: at + "/oauth2/request_auth",
			Token:         at + "/oauth2/get_token",
			Revocation:    at + "/oauth2/revoke",
			UserInfo:      at + "/openid/v1/userinfo",
			JWKS:          at + "/openid/v1/certs",
		},
		Auth: oauth.AuthBasic, NeedsSecret: true,
		Redirect: Redirect{URI: "https://localhost", Fixed: true},
		Flows:    []Flow{FlowPaste},
		Resources: []Resource{{
			Name:     "mail",
			Purposes: []Purpose{IMAP, POP3, SMTP, Send},
			Scopes:   map[Right][]string{Full: {"mail-w"}},
		}},
		Mechanisms: []string{"XOAUTH2", "OAUTHBEARER"},
		Registration: Registration{
			None:  title + " gives the mail scopes to approved partners only. With a client id of such a partner sign in by --client-id; what remains otherwise is an app password from the account's security page, one per program",
			Links: []string{"https://senders.yahooinc.com/developer/developer-access/"},
		},
		Rotates: true, // by reports; not verified
		Lifetimes: []Lifetime{
			{Rule: "a change of the password ends refresh tokens"},
		},
	}
}

func yahoo() Provider {
	p := yahooLike("yahoo", "Yahoo", "api.login.yahoo.com")
	// Not yahoo.co.jp, which is another company with other servers.
	p.Domains = []string{
		"yahoo.com", "ymail.com", "rocketmail.com", "myyahoo.com", "yahoo.ca", "yahoo.co.id", "yahoo.co.in", "yahoo.co.nz", "yahoo.co.th",
		"yahoo.co.uk", "yahoo.co.za", "yahoo.com.ar", "yahoo.com.au", "yahoo.com.br", "yahoo.com.cn", "yahoo.com.co", "yahoo.com.hk",
		"yahoo.com.mx", "yahoo.com.my", "yahoo.com.pe", "yahoo.com.ph", "yahoo.com.sg", "yahoo.com.tr", "yahoo.com.tw", "yahoo.com.vn",
		"yahoo.de", "yahoo.dk", "yahoo.es", "yahoo.fi", "yahoo.fr", "yahoo.gr", "yahoo.ie", "yahoo.in", "yahoo.it", "yahoo.nl",
		"yahoo.no", "yahoo.pl", "yahoo.ro", "yahoo.se",
	}
	p.MX = []string{"yahoodns.net"}
	p.IMAP = MailServer{"imap.mail.yahoo.com", 993, ImplicitTLS}
	p.POP3 = MailServer{"pop.mail.yahoo.com", 995, ImplicitTLS}
	p.SMTP = MailServer{"smtp.mail.yahoo.com", 465, ImplicitTLS}
	p.RevokePage = "https://login.yahoo.com/account/security"
	return p
}

func aol() Provider {
	p := yahooLike("aol", "AOL", "api.login.aol.com")
	p.Domains = []string{"aol.com", "aim.com", "aol.co.uk", "aol.de", "aol.fr", "netscape.net", "verizon.net"}
	p.MX = []string{"mx-aol.mail.gm0.yahoodns.net"}
	p.IMAP = MailServer{"imap.aol.com", 993, ImplicitTLS}
	p.POP3 = MailServer{"pop.aol.com", 995, ImplicitTLS}
	p.SMTP = MailServer{"smtp.aol.com", 465, ImplicitTLS}
	p.RevokePage = "https://login.aol.com/account/security"
	return p
}

// comcast has no Domains: mailboxes of comcast.net move to Yahoo one after another, so
// that only the mail exchanger tells where one is.
func comcast() Provider {
	return Provider{
		Name: "comcast", Title: "Comcast Xfinity",
		MX: []string{"comcast.net"},
		Endpoints: oauth.Endpoints{
			Authorization: "https://oauth.xfinity.com/oauth/authorize",
			Token:         "https://oauth.xfinity.com/oauth/token",
		},
		Auth:     oauth.AuthPost,
		Redirect: Redirect{URI: "https://localhost", Fixed: true},
		Flows:    []Flow{FlowPaste},
		Resources: []Resource{{
			Name:     "mail",
			Purposes: []Purpose{IMAP, POP3, SMTP, Send},
			Scopes:   map[Right][]string{Full: {"https://email.comcast.net/", "profile", "openid"}},
		}},
		IMAP:       MailServer{"imap.comcast.net", 993, ImplicitTLS},
		POP3:       MailServer{"pop3.comcast.net", 995, ImplicitTLS},
		SMTP:       MailServer{"smtp.comcast.net", 465, ImplicitTLS},
		Mechanisms: []string{"XOAUTH2"},
		Registration: Registration{
			None: "Comcast gives no client id to the public, and mailboxes are moving to Yahoo. What remains: allow third-party programs in the webmail's security settings and use the password",
		},
		RevokePage: "https://customer.xfinity.com/users/me",
	}
}

// passwordOnly are those whose mail knows no OAuth for the public.
func passwordOnly(name, title, remains string) Provider {
	return Provider{
		Name: name, Title: title, Mechanisms: []string{"PLAIN"},
		Registration: Registration{None: title + " offers the public no OAuth for mail. What remains: " + remains},
	}
}

func icloud() Provider {
	p := passwordOnly("icloud", "iCloud Mail", "an app-specific password from account.apple.com")
	p.Domains, p.MX = []string{"icloud.com", "me.com", "mac.com"}, []string{"mail.icloud.com"}
	p.IMAP = MailServer{"imap.mail.me.com", 993, ImplicitTLS}
	p.SMTP = MailServer{"smtp.mail.me.com", 587, STARTTLS}
	p.RevokePage = "https://account.apple.com/"
	return p
}

// proton reaches its mailboxes through Proton Bridge on this machine only.
func proton() Provider {
	p := passwordOnly("proton", "Proton Mail", "Proton Bridge (paid plans) and the password it makes for this machine, or an SMTP token for sending from an own domain")
	p.Domains = []string{"proton.me", "protonmail.com", "protonmail.ch", "pm.me"}
	p.MX = []string{"protonmail.ch"}
	p.IMAP = MailServer{"127.0.0.1", 1143, STARTTLS}
	p.SMTP = MailServer{"127.0.0.1", 1025, STARTTLS}
	p.RevokePage = "https://account.proton.me/mail/security"
	return p
}

func gmx() Provider {
	p := passwordOnly("gmx", "GMX", "switch on POP3/IMAP in the settings, and with two-factor login an app-specific password")
	p.Domains, p.MX = []string{"gmx.de", "gmx.net", "gmx.at", "gmx.ch", "gmx.eu"}, []string{"emig.gmx.net", "gmx.net"}
	p.IMAP = MailServer{"imap.gmx.net", 993, ImplicitTLS}
	p.POP3 = MailServer{"pop.gmx.net", 995, ImplicitTLS}
	p.SMTP = MailServer{"mail.gmx.net", 465, ImplicitTLS}
	return p
}

func gmxCom() Provider {
	p := passwordOnly("gmxcom", "GMX (international)", "switch on POP3/IMAP in the settings, and with two-factor login an app-specific password")
	p.Domains = []string{"gmx.com", "gmx.us", "gmx.co.uk", "gmx.fr"}
	p.IMAP = MailServer{"imap.gmx.com", 993, ImplicitTLS}
	p.POP3 = MailServer{"pop.gmx.com", 995, ImplicitTLS}
	p.SMTP = MailServer{"mail.gmx.com", 465, ImplicitTLS}
	return p
}

func webDe() Provider {
	p := passwordOnly("webde", "WEB.DE", "switch on POP3/IMAP in the settings, and with two-factor login an app-specific password")
	p.Domains, p.MX = []string{"web.de"}, []string{"mx-ha.web.de", "web.de"}
	p.IMAP = MailServer{"imap.web.de", 993, ImplicitTLS}
	p.POP3 = MailServer{"pop3.web.de", 995, ImplicitTLS}
	p.SMTP = MailServer{"smtp.web.de", 465, ImplicitTLS}
	return p
}

// mailCom sells addresses in many domains; the commonest is listed.
func mailCom() Provider {
	p := passwordOnly("mailcom", "mail.com", "a premium plan with POP3/IMAP switched on, and with two-factor login an app-specific password")
	p.Domains, p.MX = []string{"mail.com", "email.com"}, []string{"mx00.mail.com", "mx01.mail.com"}
	p.IMAP = MailServer{"imap.mail.com", 993, ImplicitTLS}
	p.POP3 = MailServer{"pop.mail.com", 995, ImplicitTLS}
	p.SMTP = MailServer{"smtp.mail.com", 465, ImplicitTLS}
	return p
}
