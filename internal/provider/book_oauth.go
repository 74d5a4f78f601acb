package provider

// oauthPages are the codes of RFC 6749, OpenID Connect, RFC 8628, 8707, 9449 and 7009.
func oauthPages() []page {
	return []page{
		{[]string{"invalid_grant"}, Entry{
			Kind:    SignIn,
			Meaning: "the code or refresh token is invalid, expired, revoked, or of another client or redirect URI",
			Cause:   "the provider gives no reason; age and last use of the grant tell most",
			Remedy:  "sign in again",
		}},
		{[]string{"invalid_client"}, Entry{
			Kind:    BadClient,
			Meaning: "the client could not authenticate",
			Cause:   "client id, secret, or the way of sending them are wrong",
			Remedy:  "check client id and secret; servers differ in whether they want the secret in the body or as Basic",
		}},
		{[]string{"unauthorized_client"}, Entry{
			Kind:    BadClient,
			Meaning: "this client may not use this flow",
			Cause:   "the registration does not allow the grant",
			Remedy:  "allow the flow in the registration, or use another one",
		}},
		{[]string{"unsupported_grant_type"}, Entry{
			Kind:    Setting,
			Meaning: "the server does not know this flow",
			Cause:   "device flow or refresh are not offered",
			Remedy:  "use --flow browser or --flow paste",
		}},
		{[]string{"unsupported_response_type"}, Entry{
			Kind:    Fault,
			Meaning: "the server does not offer the code flow to this client",
			Cause:   "the registration is for another flow",
			Remedy:  "allow authorization_code in the registration",
		}},
		{[]string{"invalid_scope"}, Entry{
			Kind:    Setting,
			Meaning: "a scope is unknown or more than was granted",
			Cause:   "mistyped, or not to be had by this client or flow",
			Remedy:  "use the scopes that letterlock register names",
		}},
		{[]string{"invalid_request"}, Entry{
			Kind:    Fault,
			Meaning: "a parameter is missing, doubled or wrong",
			Cause:   "often the redirect URI, or PKCE, or a missing resource",
			Remedy:  "compare redirect URI and scopes with the registration",
		}},
		{[]string{"access_denied"}, Entry{
			Kind:    Refused,
			Meaning: "the person or the server said no",
			Cause:   "Cancel was pressed, or a policy refuses",
			Remedy:  "sign in again and accept; if nobody was asked, the administrator has to allow it",
		}},
		{[]string{"server_error", "temporarily_unavailable"}, Entry{
			Kind:    Retry,
			Meaning: "the server has a passing trouble",
			Cause:   "busy or broken",
			Remedy:  "try again later; the grant is unharmed",
		}},
		{[]string{"interaction_required", "login_required", "consent_required", "account_selection_required"}, Entry{
			Kind:    SignIn,
			Meaning: "the person has to answer something",
			Cause:   "a second factor, a consent or a choice is open",
			Remedy:  "sign in again in a browser",
		}},
		{[]string{"authorization_pending"}, Entry{
			Kind:    Retry,
			Meaning: "the device code waits for the person",
			Cause:   "nobody has confirmed it yet",
			Remedy:  "confirm the code in the browser",
		}},
		{[]string{"slow_down"}, Entry{
			Kind:    Retry,
			Meaning: "asked too often",
			Cause:   "two programs poll, or the interval is short",
			Remedy:  "wait; Letterlock adds five seconds each time",
		}},
		{[]string{"expired_token"}, Entry{
			Kind:    SignIn,
			Meaning: "the device code has run out",
			Cause:   "it was not confirmed in time",
			Remedy:  "start again",
		}},
		{[]string{"invalid_target"}, Entry{
			Kind:    Setting,
			Meaning: "the resource is unknown or was not asked for",
			Cause:   "RFC 8707: the token is wanted for something that the grant does not cover",
			Remedy:  "sign in again with the resource of the provider",
		}},
		{[]string{"use_dpop_nonce", "invalid_dpop_proof"}, Entry{
			Kind:    Fault,
			Meaning: "the server wants tokens bound to a key (DPoP)",
			Cause:   "mail servers cannot take such tokens",
			Remedy:  "have the server give this client Bearer tokens",
		}},
		{[]string{"unsupported_token_type"}, Entry{
			Kind:    Fault,
			Meaning: "the server cannot revoke this kind of token",
			Cause:   "RFC 7009",
			Remedy:  "take the right back on the provider's page",
		}},
	}
}

// registrationPages are the codes of RFC 7591.
func registrationPages() []page {
	return []page{
		{[]string{"invalid_redirect_uri"}, Entry{
			Kind:    BadClient,
			Meaning: "the server does not register this redirect URI",
			Cause:   "loopback addresses are not allowed, or only private schemes are",
			Remedy:  "register by hand and give --redirect-uri",
		}},
		{[]string{"invalid_client_metadata"}, Entry{
			Kind:    BadClient,
			Meaning: "the server does not accept the registration",
			Cause:   "it wants a scope, a secret or other data",
			Remedy:  "register by hand and give --client-id",
		}},
		{[]string{"invalid_software_statement", "unapproved_software_statement"}, Entry{
			Kind:    BadClient,
			Meaning: "the server registers approved software only",
			Cause:   "it wants a statement signed by somebody it knows",
			Remedy:  "register by hand and give --client-id",
		}},
	}
}
