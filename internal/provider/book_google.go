package provider

// googlePages are Google's answers at sign-in and refresh.
func googlePages() []page {
	return []page{
		{[]string{"invalid_grant"}, Entry{
			Kind: SignIn, Provider: "google",
			Meaning: "Google does not take the code or refresh token any more",
			Cause:   "7 days after sign-in: the consent screen is in Testing; after 6 months without use; after a change of password; rights taken back; too many sign-ins with one client; a Workspace's session policy",
			Remedy:  "sign in again; when it happens every week, publish the app in the console (no verification is needed for own use)",
		}},
		{[]string{"invalid_rapt", "rapt_required"}, Entry{
			Kind: SignIn, Provider: "google",
			Meaning: "the Workspace asks for a new sign-in at fixed intervals",
			Cause:   "the administrator has set session control for Google Cloud and its clients",
			Remedy:  "sign in again; the administrator can exempt the client as trusted",
		}},
		{[]string{"access_denied"}, Entry{
			Kind: Refused, Provider: "google",
			Meaning: "access was not granted",
			Cause:   "Cancel was pressed; or the app is in Testing and the account is not among its test users",
			Remedy:  "sign in again and accept; or add the account under Audience, Test users, or publish the app",
		}},
		{[]string{"admin_policy_enforced"}, Entry{
			Kind: Administrator, Provider: "google",
			Meaning: "the Workspace does not allow this client or these scopes",
			Cause:   "app access control blocks unconfigured apps or mail scopes",
			Remedy:  "send the text of letterlock register google to the administrator",
		}},
		{[]string{"org_internal"}, Entry{
			Kind: BadClient, Provider: "google",
			Meaning: "the client is for members of one organization only",
			Cause:   "the audience of the app is Internal, the account is outside",
			Remedy:  "use an account of the organization, or make the audience External",
		}},
		{[]string{"disallowed_useragent"}, Entry{
			Kind: Fault, Provider: "google",
			Meaning: "Google refuses sign-in inside embedded browsers",
			Cause:   "the address was opened in a web view",
			Remedy:  "open the address in a full browser",
		}},
		{[]string{"restricted_client", "app_blocked", "this app is blocked"}, Entry{
			Kind: BadClient, Provider: "google",
			Meaning: "Google has blocked the app for these scopes",
			Cause:   "the app is not verified for restricted scopes, or used the old authorization address",
			Remedy:  "use a client of your own that is published, and the built-in endpoints; or --send-only",
		}},
		{[]string{"invalid_scope"}, Entry{
			Kind: Setting, Provider: "google",
			Meaning: "a scope is unknown or not to be had by this flow",
			Cause:   "the device flow has no mail scopes; or a scope is mistyped",
			Remedy:  "use --flow browser or --flow paste",
		}},
		{[]string{"redirect_uri_mismatch"}, Entry{
			Kind: BadClient, Provider: "google",
			Meaning: "the redirect URI does not fit the client",
			Cause:   "the client is of type Web, or the address is not on loopback",
			Remedy:  "make a client of type Desktop app; it takes http://127.0.0.1 with any port",
		}},
		{[]string{"deleted_client"}, Entry{
			Kind: BadClient, Provider: "google",
			Meaning: "the client was deleted",
			Cause:   "in the Google Cloud console; clients unused for six months go too",
			Remedy:  "restore it within 30 days, or register anew: letterlock register google",
		}},
		{[]string{"invalid_client"}, Entry{
			Kind: BadClient, Provider: "google",
			Meaning: "client id or secret are wrong",
			Cause:   "a desktop client has a secret and Google asks for it",
			Remedy:  "copy both again from the console: letterlock register google",
		}},
		{[]string{"client is unauthorized to retrieve access tokens using this method", "requested client not authorized"}, Entry{
			Kind: Administrator, Provider: "google",
			Meaning: "the service account may not act for people of this domain with these scopes",
			Cause:   "domain-wide delegation is not set up for its client id (the number, not the address), or for other scopes; a change takes up to a day",
			Remedy:  "administrator: Admin console, Security, API controls, Domain-wide delegation: add the service account's client id with the scopes https://mail.google.com/ (or https://www.googleapis.com/auth/gmail.send with --send-only)",
		}},
		{[]string{"invalid jwt signature", "invalid jwt: token must be a short-lived token"}, Entry{
			Kind: Setting, Provider: "google",
			Meaning: "the service account's assertion was not taken",
			Cause:   "the key was deleted or belongs to another service account; or this machine's clock is wrong",
			Remedy:  "check the clock; make a new key for the service account and put its file in place of the old one",
		}},
		{[]string{"invalid email or user id", "account not found"}, Entry{
			Kind: Setting, Provider: "google",
			Meaning: "Google does not know the mailbox or the service account",
			Cause:   "the address is no primary address of a person in the Workspace (an alias or group is none), or the service account was deleted",
			Remedy:  "sign in with the person's primary address; look whether the service account is there",
		}},
		{[]string{"disabled_client"}, Entry{
			Kind: BadClient, Provider: "google",
			Meaning: "the service account's key or the account itself is disabled",
			Cause:   "somebody has disabled it in the console, or Google did because the key was found in public",
			Remedy:  "look at the service account in the console; when the key was public make a new one",
		}},
		{[]string{"unauthorized_client"}, Entry{
			Kind: BadClient, Provider: "google",
			Meaning: "the client may not do this",
			Cause:   "a service account without domain-wide delegation for these scopes, or the wrong type of client",
			Remedy:  "make a client of type Desktop app; for a service account have the administrator delegate the scopes",
		}},
	}
}

// googleAPIPages are answers of the Gmail API.
func googleAPIPages() []page {
	return []page{
		{[]string{"ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientPermissions", "PERMISSION_DENIED"}, Entry{
			Kind: SignIn, Provider: "google",
			Meaning: "the token has not the right for this",
			Cause:   "the sign-in asked for less",
			Remedy:  "sign in again without --send-only, or with the account that has the right",
		}},
		{[]string{"accessNotConfigured", "SERVICE_DISABLED"}, Entry{
			Kind: BadClient, Provider: "google",
			Meaning: "the Gmail API is switched off in the project",
			Cause:   "it was not enabled when the client was made",
			Remedy:  "enable it: console.cloud.google.com/apis/library/gmail.googleapis.com, then wait some minutes",
		}},
		{[]string{"failedPrecondition", "FAILED_PRECONDITION"}, Entry{
			Kind: Administrator, Provider: "google",
			Meaning: "the mailbox cannot be used",
			Cause:   "Gmail is not switched on for the account",
			Remedy:  "ask the administrator of the Workspace",
		}},
		{[]string{"rateLimitExceeded", "userRateLimitExceeded", "RESOURCE_EXHAUSTED", "dailyLimitExceeded"}, Entry{
			Kind: Retry, Provider: "google",
			Meaning: "too many requests",
			Cause:   "a limit per minute, or the number of messages a day",
			Remedy:  "try again later; Letterlock's queue does",
		}},
		{[]string{"delegationDenied"}, Entry{
			Kind: Setting, Provider: "google",
			Meaning: "the token is not of the mailbox that was named",
			Cause:   "another account signed in",
			Remedy:  "use the mailbox of the account that signed in",
		}},
	}
}

// googleMailPages are answers of Gmail's IMAP, POP3 and SMTP servers.
func googleMailPages() []page {
	return []page{
		{[]string{"555-5.5.2", "555 5.5.2"}, Entry{
			Kind: Fault, Provider: "google",
			Meaning: "Gmail did not understand a line",
			Cause:   "the token went with the AUTH command and the line grew too long",
			Remedy:  "send AUTH without an initial response; Letterlock does so over 512 bytes",
		}},
		{[]string{"535-5.7.8", "5.7.8", "BadCredentials"}, Entry{
			Kind: SignIn, Provider: "google",
			Meaning: "user name or token were not accepted",
			Cause:   "the token has expired, is of another account, or lacks the mail scope; gmail.send does not open SMTP",
			Remedy:  "sign in again with the mailbox's own account, and not with --send-only",
		}},
		{[]string{"534-5.7.9", "5.7.9", "application-specific password required"}, Entry{
			Kind: Setting, Provider: "google",
			Meaning: "an app password is asked for",
			Cause:   "the program sent the account's password",
			Remedy:  "use the token instead: letterlock setup",
		}},
		{[]string{"534-5.7.14", "5.7.14", "web login required", "WEBALERT"}, Entry{
			Kind: SignIn, Provider: "google",
			Meaning: "Google wants a sign-in in the browser first",
			Cause:   "something about the sign-in was unusual",
			Remedy:  "sign in to Gmail in a browser, then letterlock login again",
		}},
		{[]string{"too many simultaneous connections"}, Entry{
			Kind: Retry, Provider: "google",
			Meaning: "too many IMAP connections",
			Cause:   "Gmail allows 15 for an account",
			Remedy:  "close other programs or lower their number of connections",
		}},
	}
}
