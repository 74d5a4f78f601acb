package provider

// The numbers were compared with Microsoft's reference of error codes; 500201, 9002331,
// 9002346, 70020 and 28000 are not in it and are known from reports. Microsoft reserves
// the right to change any of them.

// microsoftClientPages are about the registration of the client.
func microsoftClientPages() []page {
	return []page{
		{[]string{"AADSTS50011", "AADSTS900971", "AADSTS70004"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "the redirect URI of the request is not registered for this client",
			Cause:   "the registration has another host, port, path or platform than the request",
			Remedy:  "compare the redirect URI that was sent with the registration (Authentication, platform Mobile and desktop): for Letterlock http://localhost, any port; or give --redirect-uri as registered",
		}},
		{[]string{"AADSTS700016", "AADSTS700011"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "the directory does not know this client id",
			Cause:   "the client id is mistyped (an e-mail address in its place is common), or belongs to another directory or cloud",
			Remedy:  "check --client-id and --tenant; the id is the Application (client) id of the overview page",
		}},
		{[]string{"AADSTS7000112", "AADSTS70001", "AADSTS1000031"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "the owner or Microsoft has disabled this client",
			Cause:   "borrowed client ids end like this",
			Remedy:  "register a client of your own: letterlock register microsoft",
		}},
		{[]string{"AADSTS7000218"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "the server wants a client secret",
			Cause:   "the registration is not open to public clients, or the redirect URI was registered under the platform Web",
			Remedy:  "set Allow public client flows to Yes and move the redirect URI to Mobile and desktop applications",
		}},
		{[]string{"AADSTS700025", "AADSTS90023"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "the client is public and sent a secret",
			Cause:   "a secret is configured for a client that has none",
			Remedy:  "take the client secret out of the configuration",
		}},
		{[]string{"AADSTS7000215", "AADSTS70002"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "the client secret is wrong",
			Cause:   "the id of the secret was copied instead of its value, or it was replaced",
			Remedy:  "make a new secret and copy its value",
		}},
		{[]string{"AADSTS7000222"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "the client secret has expired",
			Cause:   "secrets of Entra end after at most two years",
			Remedy:  "make a new secret, or register a public client, which needs none",
		}},
		{[]string{"AADSTS1002012"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "an app without a user asks by .default only",
			Cause:   "scopes of a user were configured for the flow client-credentials",
			Remedy:  "take scopes out of the configuration; what the app may do is set in the directory",
		}},
		{[]string{"AADSTS700024"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "the client's assertion is not valid at this time",
			Cause:   "this machine's clock is wrong",
			Remedy:  "set the clock",
		}},
		{[]string{"AADSTS700021"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "the client's assertion is about another client or for another server",
			Cause:   "client id, tenant or cloud do not belong to the key",
			Remedy:  "check --client-id, --tenant and --provider",
		}},
		{[]string{"AADSTS700027", "AADSTS700030", "AADSTS50012", "AADSTS50013"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "the signed assertion of the client was refused",
			Cause:   "certificate and registration differ, or the clock is wrong",
			Remedy:  "upload the certificate in use to the registration and check the clock",
		}},
		{[]string{"AADSTS65005", "AADSTS650056", "AADSTS650057"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "the registration does not list the permission that was asked for",
			Cause:   "a mail permission is missing under API permissions",
			Remedy:  "add the delegated permissions that letterlock register microsoft names",
		}},
		{[]string{"AADSTS65002"}, Entry{
			Kind: BadClient, Provider: "microsoft",
			Meaning: "a client id of Microsoft's own was used",
			Cause:   "such ids may ask for few permissions, and others may not use them",
			Remedy:  "register a client of your own: letterlock register microsoft",
		}},
	}
}

// microsoftTenantPages are about the kind of account and the directory.
func microsoftTenantPages() []page {
	return []page{
		{[]string{"AADSTS500201", "AADSTS90027"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "a personal account came to the endpoint of version 1",
			Cause:   "the endpoint has no /v2.0 in its path",
			Remedy:  "use the endpoints with oauth2/v2.0, as the built-in provider does",
		}},
		{[]string{"AADSTS50020", "AADSTS500208", "AADSTS16000", "AADSTS90072"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "this account does not belong to the directory that was asked",
			Cause:   "a personal account at a work tenant, or an account of another organization",
			Remedy:  "use --tenant consumers for personal accounts, organizations or the directory id for work; or pick the other account in the browser",
		}},
		{[]string{"AADSTS50034", "AADSTS51004", "AADSTS50014"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "the directory has no such account",
			Cause:   "the address is mistyped, or lives in another directory",
			Remedy:  "check the address and --tenant",
		}},
		{[]string{"AADSTS50194"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "the client belongs to one directory and came by common",
			Cause:   "the registration allows accounts of one directory only",
			Remedy:  "give --tenant with that directory's id",
		}},
		{[]string{"AADSTS9002331", "AADSTS9002346"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "the client is for personal accounts only",
			Cause:   "common or a directory was asked",
			Remedy:  "give --tenant consumers",
		}},
		{[]string{"AADSTS9002332"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "the client is for work and school accounts only",
			Cause:   "consumers was asked",
			Remedy:  "give --tenant organizations or the directory id",
		}},
		{[]string{"AADSTS9001023", "AADSTS90124", "AADSTS90130"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "what was asked does not work by common or consumers",
			Cause:   "the grant or the resource needs a directory",
			Remedy:  "give --tenant with the directory id",
		}},
		{[]string{"AADSTS50059", "AADSTS50128", "AADSTS90019"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "the directory cannot be told from the request",
			Cause:   "no tenant was given and none follows from the account",
			Remedy:  "give --tenant with the directory id or one of its domains",
		}},
		{[]string{"AADSTS90002", "AADSTS90038", "AADSTS50049"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "there is no such directory in this cloud",
			Cause:   "the tenant is mistyped, or belongs to a national cloud",
			Remedy:  "check --tenant, and use provider microsoft-gcchigh, microsoft-dod or microsoft-china where it applies",
		}},
		{[]string{"AADSTS500011", "AADSTS50001", "AADSTS650052", "AADSTS650054"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "the directory does not have the service that was asked",
			Cause:   "Exchange Online is not there, or the scope names another cloud's host",
			Remedy:  "check that the account has a mailbox in this cloud; ask the administrator",
		}},
		{[]string{"AADSTS500021", "AADSTS500022", "AADSTS500212", "AADSTS500213"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "access between the two organizations is not allowed",
			Cause:   "a tenant restriction or a cross-tenant policy",
			Remedy:  "ask the administrators of both organizations",
		}},
	}
}

// microsoftGrantPages are about grants that ended.
func microsoftGrantPages() []page {
	return []page{
		{[]string{"AADSTS70000"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the code or refresh token is not valid",
			Cause:   "it is damaged, of another client, or withdrawn",
			Remedy:  "sign in again",
		}},
		{[]string{"AADSTS70008", "AADSTS700082"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the code or refresh token has expired",
			Cause:   "the refresh token was not used for 90 days, or the code for 10 minutes",
			Remedy:  "sign in again; the agent keeps grants in use alive",
		}},
		{[]string{"AADSTS700084"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the refresh token was that of a single-page application and has ended",
			Cause:   "the redirect URI is registered under that platform: 24 hours",
			Remedy:  "move the redirect URI to Mobile and desktop applications and sign in again",
		}},
		{[]string{"AADSTS50173", "AADSTS50132", "AADSTS50133", "AADSTS50089", "AADSTS70043"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the grant was withdrawn or is too old for a policy",
			Cause:   "the password was changed, sessions were revoked, or a sign-in frequency is set (70043)",
			Remedy:  "sign in again; where it comes back in a fixed rhythm, ask the administrator about sign-in frequency",
		}},
		{[]string{"AADSTS54005"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the code was used before",
			Cause:   "two programs, or a request sent twice",
			Remedy:  "sign in again",
		}},
		{[]string{"AADSTS700005"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the code is of another tenant",
			Cause:   "the two steps of the sign-in used different tenants",
			Remedy:  "sign in again with one --tenant",
		}},
		{[]string{"AADSTS501481", "AADSTS50147", "AADSTS501491"}, Entry{
			Kind: Fault, Provider: "microsoft",
			Meaning: "PKCE failed",
			Cause:   "code and verifier are not of one sign-in, as when an old redirect is pasted",
			Remedy:  "start the sign-in again and paste the newest address",
		}},
		{[]string{"AADSTS70016"}, Entry{
			Kind: Retry, Provider: "microsoft",
			Meaning: "the device code waits for the person",
			Cause:   "nobody has confirmed the code yet",
			Remedy:  "confirm the code in the browser",
		}},
		{[]string{"AADSTS70018", "AADSTS90119"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the code typed on the page is wrong",
			Cause:   "a typing error",
			Remedy:  "start again",
		}},
		{[]string{"AADSTS70019", "AADSTS70020", "AADSTS90120"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the device code has expired or was used",
			Cause:   "codes live 15 minutes",
			Remedy:  "start again",
		}},
		{[]string{"AADSTS65004"}, Entry{
			Kind: Refused, Provider: "microsoft",
			Meaning: "the person did not consent",
			Cause:   "Cancel was pressed on the consent page",
			Remedy:  "sign in again and accept, or ask for less with --send-only",
		}},
		{[]string{"AADSTS50126", "AADSTS50055", "AADSTS50056", "AADSTS50144", "AADSTS50064"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the password is wrong or has expired",
			Cause:   "as typed on Microsoft's page",
			Remedy:  "put the password in order at Microsoft and sign in again",
		}},
		{[]string{"AADSTS50053"}, Entry{
			Kind: Retry, Provider: "microsoft",
			Meaning: "the account is locked for a while, or the network is blocked",
			Cause:   "too many wrong passwords, or an address of ill repute",
			Remedy:  "wait, or sign in from another network",
		}},
		{[]string{"AADSTS50057"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "the account is disabled",
			Cause:   "the organization has switched it off",
			Remedy:  "ask the administrator",
		}},
	}
}

// microsoftPolicyPages are about consent and policies of the organization.
func microsoftPolicyPages() []page {
	return []page{
		{[]string{"AADSTS65001", "AADSTS90008"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "nobody has consented to this client",
			Cause:   "consent is asked on the sign-in page, and by a device code only for the mail servers, not for Graph; it may have been taken back; where users may not consent, an administrator must",
			Remedy:  "sign in again in a browser (--flow browser or paste); if it refuses, send the text of letterlock register microsoft to the administrator",
		}},
		{[]string{"AADSTS90094", "AADSTS90095", "AADSTS90093"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "an administrator has to consent",
			Cause:   "the organization does not let its users consent to clients, or not to these permissions",
			Remedy:  "send the text of letterlock register microsoft, with its adminconsent link, to the administrator",
		}},
		{[]string{"AADSTS50105"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "the account is not assigned to this client",
			Cause:   "the client requires assignment",
			Remedy:  "ask the administrator to assign you to it",
		}},
		{[]string{"AADSTS50072", "AADSTS50074", "AADSTS50076", "AADSTS50078", "AADSTS50079", "AADSTS50158"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "a second factor is required",
			Cause:   "a policy changed, or the factor given has expired",
			Remedy:  "sign in again in a browser and give the factor",
		}},
		{[]string{"AADSTS50097", "AADSTS50155", "AADSTS50129", "AADSTS50187", "AADSTS53000", "AADSTS53001", "AADSTS135011"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "the device is not one that the organization knows or finds in order",
			Cause:   "Conditional Access admits managed devices only; a device code always counts as unmanaged",
			Remedy:  "sign in by browser on a managed device (--flow browser), or ask the administrator with the correlation id",
		}},
		{[]string{"AADSTS53002", "AADSTS50127"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "only approved programs may sign in",
			Cause:   "Conditional Access names the programs",
			Remedy:  "ask the administrator to admit this client id",
		}},
		{[]string{"AADSTS53003", "AADSTS530032", "AADSTS530034", "AADSTS50131", "AADSTS53011"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "Conditional Access has blocked the sign-in",
			Cause:   "often the device flow is blocked, or the place or network",
			Remedy:  "use --flow browser; if it stays, ask the administrator with the correlation id",
		}},
		{[]string{"AADSTS530035"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "security defaults have blocked the sign-in",
			Cause:   "the request looked like legacy authentication",
			Remedy:  "ask the administrator with the correlation id",
		}},
		{[]string{"AADSTS53004", "AADSTS53010"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the second factor has to be set up first",
			Cause:   "a policy asks for it, perhaps from known places only",
			Remedy:  "set it up at mysignins.microsoft.com, then sign in again",
		}},
		{[]string{"AADSTS50005"}, Entry{
			Kind: Administrator, Provider: "microsoft",
			Meaning: "this operating system is not supported by the policy",
			Cause:   "Conditional Access lists platforms",
			Remedy:  "ask the administrator with the correlation id",
		}},
	}
}

// microsoftRequestPages are about requests and passing troubles.
func microsoftRequestPages() []page {
	return []page{
		{[]string{"AADSTS28000", "AADSTS700022"}, Entry{
			Kind: Fault, Provider: "microsoft",
			Meaning: "one request named scopes of two resources",
			Cause:   "a token is good for one resource: Outlook or Graph",
			Remedy:  "ask for one at a time; Letterlock does so, so look for scopes set by hand",
		}},
		{[]string{"AADSTS70011", "AADSTS28002", "AADSTS28003", "AADSTS700023"}, Entry{
			Kind: Setting, Provider: "microsoft",
			Meaning: "a scope is wrong or missing",
			Cause:   "mistyped, of another cloud, or not to be had for this kind of account",
			Remedy:  "use the built-in scopes: https://outlook.office.com/IMAP.AccessAsUser.All and its like",
		}},
		{[]string{"AADSTS901002"}, Entry{
			Kind: Fault, Provider: "microsoft",
			Meaning: "the parameter resource belongs to version 1",
			Cause:   "resource was set for an endpoint that knows scopes only",
			Remedy:  "take resource out of the configuration",
		}},
		{[]string{"AADSTS70003", "AADSTS70005", "AADSTS70007"}, Entry{
			Kind: Fault, Provider: "microsoft",
			Meaning: "the grant type, response type or response mode is not known",
			Cause:   "a mistake in configuration or client",
			Remedy:  "use one of the flows browser, device or paste",
		}},
		{[]string{"AADSTS9002313", "AADSTS90014", "AADSTS900144", "AADSTS90100", "AADSTS90013", "AADSTS900561", "AADSTS90056"}, Entry{
			Kind: Fault, Provider: "microsoft",
			Meaning: "the request is malformed or lacks a parameter",
			Cause:   "a mistake in configuration or client, or the Back button in the browser",
			Remedy:  "start the sign-in again; if it stays, report it with letterlock report",
		}},
		{[]string{"AADSTS50196"}, Entry{
			Kind: Retry, Provider: "microsoft",
			Meaning: "the same request came too often",
			Cause:   "a program asks in a loop",
			Remedy:  "wait some minutes and stop the loop: tokens are good for an hour",
		}},
		{[]string{"AADSTS90006", "AADSTS90012", "AADSTS90024", "AADSTS90033", "AADSTS90055", "AADSTS90090", "AADSTS50033", "AADSTS50087", "AADSTS70012"}, Entry{
			Kind: Retry, Provider: "microsoft",
			Meaning: "Microsoft has a passing trouble",
			Cause:   "the service is busy or away",
			Remedy:  "try again later; the grant is unharmed",
		}},
		{[]string{"AADSTS50058", "AADSTS700020", "AADSTS50199", "AADSTS50140"}, Entry{
			Kind: SignIn, Provider: "microsoft",
			Meaning: "the sign-in needs the person",
			Cause:   "nobody was signed in, or a question was open",
			Remedy:  "sign in again in a browser",
		}},
	}
}
