package provider

// microsoftMailPages are answers of Exchange Online's servers and of Graph.
func microsoftMailPages() []page {
	return []page{
		{[]string{"5.7.139"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "Exchange Online refuses SMTP authentication for this mailbox, by token too",
			Cause:   "SMTP AUTH is off for the tenant or the mailbox, or security defaults are on",
			Remedy:  "send by Graph with the same sign-in (letterlock token --for graph), or have the administrator run Set-CASMailbox -SmtpClientAuthenticationDisabled $false",
		}},
		{[]string{"5.7.3"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "Exchange Online does not accept the token",
			Cause:   "a token for Graph at SMTP, a scope missing, or a user name that is not the token's",
			Remedy:  "use the token of letterlock token --for smtp, and sign in again if SMTP.Send was not consented to; for a shared mailbox authenticate as yourself at SMTP",
		}},
		{[]string{"authenticated but not connected"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "the token is good, but its user has no such mailbox",
			Cause:   "another account signed in than the mailbox's, no licence, or IMAP is switched off for it",
			Remedy:  "sign in with the mailbox's own account; for a shared mailbox give its address as the IMAP user",
		}},
		{[]string{"AccessTokenExpired"}, Entry{
			Kind: Retry, Provider: "microsoft",
			Meaning: "the token ended within the session",
			Cause:   "sessions last as long as the token, about an hour",
			Remedy:  "connect again with a fresh token; Letterlock's proxy and tunnel do",
		}},
		{[]string{"5.5.127"}, Entry{
			Kind: Retry, Provider: "microsoft",
			Meaning: "the token has less than ten minutes left",
			Cause:   "high volume e-mail refuses short tokens",
			Remedy:  "letterlock token --min-validity 10m",
		}},
		{[]string{"5.7.57"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "the client sent mail without authenticating",
			Cause:   "AUTH was left out or failed before",
			Remedy:  "switch authentication on in the program",
		}},
		{[]string{"5.7.60", "5.2.252", "SendAsDenied", "ErrorSendAsDenied"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "this account may not send as that address",
			Cause:   "the From address is not the mailbox's own",
			Remedy:  "send as the account's own address, or have the administrator grant Send As",
		}},
		{[]string{"4.3.2", "STOREDRV"}, Entry{
			Kind: Retry, Provider: "microsoft",
			Meaning: "too many messages or connections at once",
			Cause:   "three connections and 30 messages a minute are the limit",
			Remedy:  "try again later; Letterlock's queue does",
		}},
		{[]string{"ErrorAccessDenied", "Authorization_RequestDenied"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "Graph says the token has not the right",
			Cause:   "Mail.Send is missing, or the mailbox is another's",
			Remedy:  "sign in again and consent to Mail.Send",
		}},
		{[]string{"InvalidAuthenticationToken"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "Graph does not take this token",
			Cause:   "a token for Outlook at Graph, or one that has expired",
			Remedy:  "letterlock token --for graph gives the right one",
		}},
		{[]string{"MailboxNotEnabledForRESTAPI"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "the mailbox cannot be used by Graph",
			Cause:   "it is on premises, or has no licence",
			Remedy:  "use SMTP, or ask the administrator",
		}},
		{[]string{"4.7.0"}, Entry{
			Kind: Retry, Provider: "microsoft",
			Meaning: "the server puts the sign-in off",
			Cause:   "too many attempts, or a passing trouble",
			Remedy:  "wait some minutes; do not let programs retry every few seconds",
		}},
	}
}

// otherPages are answers of other providers.
func otherPages() []page {
	return []page{
		{[]string{"specify a valid request"}, Entry{
			Kind:    BadClient,
			Meaning: "Yahoo or AOL do not accept the request",
			Cause:   "scope or redirect URI are not as registered",
			Remedy:  "use the scope mail-w and the redirect URI of the registration, to the letter",
		}},
		{[]string{"invalid_code"}, Entry{
			Kind:    SignIn,
			Meaning: "Zoho does not take the code or refresh token",
			Cause:   "it was used before, has expired, or belongs to another region",
			Remedy:  "sign in again at the region of the account",
		}},
		{[]string{"INVALID_REFRESH_TOKEN", "token_rejected"}, Entry{
			Kind:    SignIn,
			Meaning: "the refresh token was refused",
			Cause:   "rights were taken back, or an old one was used after a refresh",
			Remedy:  "sign in again",
		}},
		{[]string{"INVALID_OAUTHTOKEN"}, Entry{
			Kind:    SignIn,
			Meaning: "Zoho does not take the token",
			Cause:   "it has expired or was replaced by newer ones",
			Remedy:  "fetch a new token; else sign in again",
		}},
	}
}

// mailPages are answers that mail servers share.
func mailPages() []page {
	return []page{
		{[]string{"AUTHENTICATIONFAILED"}, Entry{
			Kind:    SignIn,
			Meaning: "the mail server did not accept user name and token",
			Cause:   "the token has expired, lacks the scope, or is of another user",
			Remedy:  "sign in again as the mailbox's own user, with the right that the server wants",
		}},
		{[]string{"AUTHORIZATIONFAILED"}, Entry{
			Kind:    Setting,
			Meaning: "the token is good, but may not open this mailbox",
			Cause:   "user name and mailbox differ",
			Remedy:  "give the mailbox's own user name, or ask its owner for access",
		}},
		{[]string{"Temporary authentication failure", "454 4.7.0"}, Entry{
			Kind:    Retry,
			Meaning: "the mail server could not check the token",
			Cause:   "its introspection or its database is away; Dovecot writes the reason to its log",
			Remedy:  "try again later; on a server of your own look at the auth log",
		}},
		{[]string{"[UNAVAILABLE]"}, Entry{
			Kind:    Retry,
			Meaning: "the mail server cannot serve now",
			Cause:   "a part behind it is away",
			Remedy:  "try again later",
		}},
		{[]string{"PRIVACYREQUIRED", "plaintext authentication disallowed"}, Entry{
			Kind:    Setting,
			Meaning: "the server wants TLS before the sign-in",
			Cause:   "the connection is not encrypted",
			Remedy:  "use implicit TLS or STARTTLS",
		}},
		{[]string{"Invalid SASL argument"}, Entry{
			Kind:    Fault,
			Meaning: "the server could not read the token message",
			Cause:   "a client that encodes XOAUTH2 wrongly, or answers a failure with the wrong line",
			Remedy:  "use letterlock tunnel or proxy for that client",
		}},
		{[]string{"unsupported authentication mechanism", "mechanism not supported", "no worthy mechs", "5.7.4"}, Entry{
			Kind:    Setting,
			Meaning: "the server or the SASL library lacks the mechanism",
			Cause:   "XOAUTH2 or OAUTHBEARER are not offered, or no plug-in is installed",
			Remedy:  "use letterlock tunnel, which needs no plug-in; letterlock test shows what is offered",
		}},
		{[]string{"5.7.1"}, Entry{
			Kind:    Refused,
			Meaning: "the mail server refuses the sender, the recipient or the message",
			Cause:   "not the sender's own address, relaying, or a rule about content",
			Remedy:  "read the text behind the code; send as an address of the account",
		}},
		{[]string{"invalid_token"}, Entry{
			Kind:    SignIn,
			Meaning: "the token is expired, revoked or malformed",
			Cause:   "RFC 6750; servers say it in the failure message of OAUTHBEARER too",
			Remedy:  "fetch a new token; else sign in again",
		}},
		{[]string{"insufficient_scope"}, Entry{
			Kind:    SignIn,
			Meaning: "the token has not the right for this",
			Cause:   "the sign-in asked for less than the server wants; its message may name the scope",
			Remedy:  "sign in again with the scope that the server names",
		}},
	}
}
