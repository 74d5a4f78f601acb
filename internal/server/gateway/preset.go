package gateway

// A Preset is what is particular to a kind of web mail.
type Preset struct {
	Name    string
	Blocked []Rule
	// ScriptCookies are cookies that its scripts read and write. All others are bound to
	// the session, and a script cannot make one.
	ScriptCookies []string
	// Roundcube's scripts are told of an ended session in their own words.
	roundcube bool
}

// Roundcube is the preset for Roundcube 1.5 and 1.6 with its plugin http_authentication.
func Roundcube() Preset {
	return Preset{
		Name: "roundcube", roundcube: true,
		Blocked: []Rule{
			{Param: "_task", Value: "login"}, {Param: "_action", Value: "login"},
			{Path: "/installer"}, {Path: "/bin"}, {Path: "/SQL"}, {Path: "/config"}, {Path: "/logs"}, {Path: "/temp"}, {Path: "/vendor"},
		},
		ScriptCookies: []string{"colorMode", "language"},
	}
}

// Plain is the preset for any other web mail.
func Plain() Preset { return Preset{Name: "plain"} }

// commonBlocked are doors beside the front door that web mail and what stands beside it
// have: they take a password, or do things without the web mail's own checks.
func commonBlocked() []Rule {
	return []Rule{
		{Path: "/xmlrpc.php"}, {Path: "/rpc.php"}, {Path: "/RPC2"}, {Path: "/xmlrpc"}, {Path: "/Microsoft-Server-ActiveSync"},
		{Path: "/server-status"}, {Path: "/server-info"},
	}
}
