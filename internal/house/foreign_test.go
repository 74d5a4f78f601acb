package house

import (
	"go/ast"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A mouth is where bytes come in that somebody else has made: a server, a browser, a
// program that calls us, a file that others could have written.
type mouth struct {
	room   string
	parser string // function, or Type.method
	fuzz   string
}

// mouths are all of them, each with the fuzz target that feeds it. A new one is a new
// line here, a target beside the parser, and a corpus kept under testdata/fuzz.
func mouths() []mouth {
	return slices.Concat(leafMouths(), clientMouths(), mailMouths(), serverMouths(), provisionMouths(), gatewayMouths())
}

func leafMouths() []mouth {
	return []mouth{
		{"cmd/letterlockd", "parseNewcomers", "FuzzNewcomers"},
		{"internal/cli", "Line", "FuzzLine"},
		{"internal/cli", "lineWriter.Write", "FuzzLine"},
		{"internal/cli", "readRaw", "FuzzRawLine"},
		{"internal/config", "Parse", "FuzzParseAndEdit"},
		{"internal/config", "Edit", "FuzzParseAndEdit"},
		{"internal/config", "ParseDaemon", "FuzzParseDaemon"},
		{"internal/dnsask", "parseAnswer", "FuzzAnswer"},
		{"internal/server/identity", "CanonicalAddress", "FuzzCanonicalAddress"},
		{"internal/oauth", "ParseIssuer", "FuzzIssuer"},
		{"internal/oauth", "parseMetadata", "FuzzMetadata"},
		{"internal/oauth", "parseKeys", "FuzzKeys"},
		{"internal/oauth", "Conn.VerifyID", "FuzzIDToken"},
		{"internal/oauth", "answer.userInfo", "FuzzUserInfo"},
		{"internal/oauth", "ParseKey", "FuzzKeyFile"},
		{"internal/oauth", "answer.token", "FuzzTokenAnswer"},
		{"internal/oauth", "answer.fault", "FuzzErrorAnswer"},
		{"internal/oauth", "answer.client", "FuzzRegistrationAnswer"},
		{"internal/oauth", "object.deviceAuth", "FuzzDeviceAuth"},
		{"internal/oauth", "ParseCallback", "FuzzCallback"},
		{"internal/provider", "Explain", "FuzzExplain"},
		{"internal/sasl", "ParsePlain", "FuzzParsePlain"},
		{"internal/sasl", "ParseXOAuth2", "FuzzParseXOAuth2"},
		{"internal/sasl", "ParseOAuthBearer", "FuzzParseOAuthBearer"},
		{"internal/sasl", "ParseRefusal", "FuzzParseRefusal"},
		{"internal/sasl", "NewServer", "FuzzServer"},
		{"internal/secret", "Veil.Text", "FuzzVeil"},
		{"internal/trust", "subject", "FuzzSubject"},
	}
}

// gatewayMouths are those that hear browsers and web mail through the gateway.
func gatewayMouths() []mouth {
	return []mouth{
		{"internal/server/gateway", "strip", "FuzzStrip"},
		{"internal/server/gateway", "binder.unbound", "FuzzBound"},
		{"internal/server/gateway", "pairs.feed", "FuzzForm"},
		{"internal/server/gateway", "parts.feed", "FuzzForm"},
		{"internal/server/gateway", "readBegin", "FuzzBegin"},
		{"internal/server/gateway", "rules.paths", "FuzzPath"},
		{"internal/server/gateway", "soundRequest", "FuzzPath"},
	}
}

// provisionMouths are those of directories and of identity providers that are asked again.
func provisionMouths() []mouth {
	return []mouth{
		{"internal/oauth", "Conn.VerifyLogout", "FuzzLogoutToken"},
		{"internal/server/membership", "GitHub.Ask", "FuzzGitHub"},
		{"internal/server/membership", "logoutToken", "FuzzLogoutForm"},
		{"internal/server/scim", "parseComparison", "FuzzFilter"},
		{"internal/server/scim", "parsePath", "FuzzPath"},
		{"internal/server/scim", "readUser", "FuzzUser"},
		{"internal/server/scim", "parsePatch", "FuzzPatch"},
	}
}

func clientMouths() []mouth {
	return []mouth{
		{"internal/client/account", "decode", "FuzzDecode"},
		{"internal/client/agent", "readLine", "FuzzAnswer"},
		{"internal/client/discovery", "parseAutoconfig", "FuzzAutoconfig"},
		{"internal/client/discovery", "parseXML", "FuzzXML"},
		{"internal/client/discovery", "parsePACC", "FuzzPACC"},
		{"internal/client/discovery", "paccDigests", "FuzzDigests"},
		{"internal/client/discovery", "parseResource", "FuzzResource"},
		{"internal/client/discovery", "issuerOf", "FuzzIssuerOf"},
		{"internal/client/intake", "readSubmission", "FuzzSubmission"},
		{"internal/client/intake", "decode", "FuzzSubmission"},
		{"internal/client/intake", "exact.Read", "FuzzSubmission"},
		{"internal/client/intake", "readAnswer", "FuzzAnswer"},
		{"internal/client/login", "callback.ServeHTTP", "FuzzCallback"},
		{"internal/client/login", "Paste", "FuzzPaste"},
		{"internal/client/login", "QR", "FuzzQR"},
		{"internal/client/probe", "audience", "FuzzAudience"},
		{"internal/client/sendmail", "Parse", "FuzzParse"},
		{"internal/client/sendmail", "ParseMail", "FuzzParseMail"},
		{"internal/client/sendmail", "ParseAliases", "FuzzAliases"},
		{"internal/client/sendmail", "Sender.Serve", "FuzzDialogue"},
		{"internal/client/takeover", "ReadMuttOAuth2", "FuzzMuttOAuth2"},
		{"internal/client/tokenstore", "DecodeName", "FuzzDecodeName"},
		{"internal/client/tokenstore", "Store.ReadMark", "FuzzMark"},
		{"internal/client/tokenstore", "open", "FuzzOpen"},
		{"internal/client/tokenstore", "unwrap", "FuzzUnwrap"},
		{"internal/client/tokenstore", "parseIdentity", "FuzzParseIdentity"},
		{"internal/client/tokenstore", "parseColons", "FuzzSecretKeyList"},
		{"internal/client/tokenstore", "statusLines", "FuzzStatusLines"},
		{"internal/client/tokenstore", "decryptSecret", "FuzzDecryptSecret"},
		{"internal/client/upstream", "Conn.readLine", "FuzzServer"},
		{"internal/client/upstream", "decodeChallenge", "FuzzDecodeChallenge"},
		{"internal/client/upstream", "trace.clean", "FuzzLine"},
		{"internal/client/upstream", "Tunnel", "FuzzTunnelClient"},
	}
}

func mailMouths() []mouth {
	return []mouth{
		{"internal/mail/delivery", "readReply", "FuzzReply"},
		{"internal/mail/delivery", "checkEnvelope", "FuzzAddress"},
		{"internal/mail/domain", "ParseKeyRecord", "FuzzKeyRecord"},
		{"internal/mail/domain", "ParseDMARC", "FuzzDMARC"},
		{"internal/mail/domain", "ParseTLSRPT", "FuzzTLSRPT"},
		{"internal/mail/domain", "EvaluateSPF", "FuzzSPF"},
		{"internal/mail/domain", "parseSPF", "FuzzSPF"},
		{"internal/mail/domain", "readAnswer", "FuzzListing"},
		{"internal/mail/domain", "Keys.Sign", "FuzzSign"},
		{"internal/mail/message", "Read", "FuzzRead"},
		{"internal/mail/message", "ParseAddresses", "FuzzAddresses"},
		{"internal/mail/mtasts", "ParsePolicy", "FuzzPolicy"},
		{"internal/mail/mtasts", "ParseRecord", "FuzzRecord"},
		{"internal/mail/queue", "parseRecords", "FuzzFile"},
		{"internal/mail/queue", "DSN", "FuzzDSN"},
	}
}

func serverMouths() []mouth {
	return []mouth{
		{"internal/server/database", "readBackup", "FuzzReadBackup"},
		{"internal/server/authserver", "parseParams", "FuzzParams"},
		{"internal/server/authserver", "matchRedirect", "FuzzRedirect"},
		{"internal/server/authserver", "normalUserCode", "FuzzUserCode"},
		{"internal/server/authserver", "Server.openClientID", "FuzzClientID"},
		{"internal/server/authserver", "checkRedirectURI", "FuzzRegistration"},
		{"internal/server/authserver", "presentedClient", "FuzzPresentedClient"},
		{"internal/server/authserver", "readAssertion", "FuzzAssertion"},
		{"internal/server/authserver", "ClientKeys", "FuzzClientKeys"},
		{"internal/server/authserver", "keySet", "FuzzClientKeys"},
		{"internal/server/authserver", "Server.readFarewell", "FuzzFarewell"},
		{"internal/server/credential", "userName", "FuzzUserName"},
		{"internal/server/credential", "parseAppPassword", "FuzzAppPassword"},
		{"internal/server/credential", "parsePHC", "FuzzPHC"},
		{"internal/server/doctor", "parsePostconf", "FuzzPostconf"},
		{"internal/server/doctor", "parseMaster", "FuzzPostconf"},
		{"internal/server/doctor", "parseDoveconf", "FuzzDoveconf"},
		{"internal/server/doctor", "parseExt", "FuzzDoveconf"},
		{"internal/server/doctor", "readGreeting", "FuzzAnswers"},
		{"internal/server/doctor", "readReply", "FuzzAnswers"},
		{"internal/server/doctor", "readMilter", "FuzzAnswers"},
		{"internal/server/issuer", "issuerOf", "FuzzToken"},
		{"internal/server/issuer", "Issuer.accept", "FuzzToken"},
		{"internal/server/mailauth", "readLine", "FuzzLine"},
		{"internal/server/mailauth", "parseLine", "FuzzLine"},
		{"internal/server/mailauth", "parseAuth", "FuzzLine"},
		{"internal/server/mailauth", "unescape", "FuzzLine"},
		{"internal/server/mailauth", "conn.talk", "FuzzConnection"},
		{"internal/server/mailauth", "parseForm", "FuzzForm"},
		{"internal/server/mailauth", "remote", "FuzzForm"},
		{"internal/server/mailauth", "parsePolicy", "FuzzPolicy"},
		{"internal/server/mailauth", "parseDoveadm", "FuzzDoveadm"},
		{"internal/server/mailauth", "readGreeting", "FuzzUpstream"},
		{"internal/server/mailauth", "mechanismLine", "FuzzUpstream"},
		{"internal/server/mailauth", "readAnswer", "FuzzUpstream"},
		{"internal/server/mailauth", "parseAnswer", "FuzzUpstream"},
		{"internal/server/senders", "readNetstring", "FuzzNetstring"},
		{"internal/server/senders", "Socketmap.reply", "FuzzNetstring"},
		{"internal/server/senders", "parseMailboxes", "FuzzMailboxes"},
		{"internal/server/senders", "loginOf", "FuzzMilter"},
		{"internal/server/senders", "session.MailFrom", "FuzzMilter"},
		{"internal/server/senders", "session.Header", "FuzzMilter"},
		{"internal/server/throttle", "ParseList", "FuzzList"},
		{"internal/server/signin", "GitHub.who", "FuzzGitHubAnswers"},
		{"internal/server/github", "Client.Call", "FuzzCall"},
		{"internal/server/github", "hasNext", "FuzzCall"},
		{"internal/server/signin", "Desk.ownAddresses", "FuzzOwnAddresses"},
		{"internal/server/signin", "payload", "FuzzClaims"},
		{"internal/server/signin", "hasOne", "FuzzClaims"},
		{"internal/server/signin", "queryValues", "FuzzCallback"},
		{"internal/server/factor", "Keeper.Prove", "FuzzAssertion"},
		{"internal/server/factor", "Keeper.AddPasskey", "FuzzRegistration"},
		{"internal/server/factor", "normalDigits", "FuzzCode"},
		{"internal/server/factor", "normalCode", "FuzzCode"},
		{"internal/server/factor", "Keeper.openTicket", "FuzzTicket"},
		{"internal/server/portal", "parseWish", "FuzzWish"},
		{"internal/server/web", "LocalPath", "FuzzLocalPath"},
		{"internal/server/web", "hop", "FuzzClient"},
	}
}

// deaf are rooms that use a decoder and hear nobody else with it, each with the reason.
func deaf() map[string]string {
	return map[string]string{
		"internal/server/hook":  "writes JSON and reads none; what its program says goes through cli.Line into the log",
		"cmd/letterlock":        "hands over what it reads: a token as one line to package oauth's rules, a message to package provider",
		"cmd/try":               "talks to itself on loopback",
		"internal/command":      "writes JSON and reads none",
		"internal/server/tally": "writes hex and reads none",
		"internal/server/meter": "answers two GET requests by their path",
	}
}

// TestEveryMouthIsFuzzed wants each parser to be there, and its target, with a corpus.
func TestEveryMouthIsFuzzed(t *testing.T) {
	functions, targets := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test {
				targets[s.room+"."+f.Name.Name] = strings.HasPrefix(f.Name.Name, "Fuzz")
			} else if ok {
				functions[s.room+"."+receiver(f)+f.Name.Name] = true
			}
		}
	}
	fed := map[string]bool{}
	for _, m := range mouths() {
		fed[m.room+"."+m.fuzz] = true
		if !functions[m.room+"."+m.parser] {
			t.Errorf("%s has no parser %s: correct the inventory", m.room, m.parser)
		}
		if !targets[m.room+"."+m.fuzz] {
			t.Errorf("%s.%s reads foreign bytes and has no target %s", m.room, m.parser, m.fuzz)
		}
		if kept, _ := filepath.Glob(filepath.Join("../..", m.room, "testdata/fuzz", m.fuzz, "*")); len(kept) == 0 {
			t.Errorf("%s: no corpus is kept for %s", m.room, m.fuzz)
		}
	}
	for name, fuzz := range targets {
		if kept, _ := filepath.Glob(filepath.Join("../..", filepath.Dir(name)+"/"+strings.Replace(filepath.Base(name), ".", "/testdata/fuzz/", 1), "*")); fuzz && len(kept) == 0 && !fed[name] {
			t.Errorf("%s keeps no corpus", name)
		}
	}
}

// receiver is "Type." of a method.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	kind := f.Recv.List[0].Type
	if star, ok := kind.(*ast.StarExpr); ok {
		kind = star.X
	}
	if name, ok := kind.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

// TestDecodersAreKnown finds mouths that nobody has put into the inventory: rooms that
// use a decoder and are not in it.
func TestDecodersAreKnown(t *testing.T) {
	decoders := []string{"bufio", "encoding/base64", "encoding/hex", "encoding/json", "encoding/pem", "encoding/xml", "net/http", "net/mail", "net/textproto", "mime",
		"github.com/pelletier/go-toml/v2", "github.com/godbus/dbus/v5", "github.com/go-jose/go-jose/v4", "github.com/emersion/go-message", "filippo.io/age"}
	known := map[string]bool{}
	for _, m := range mouths() {
		known[m.room] = true
	}
	for _, p := range packages(t) {
		room := short(p.ImportPath)
		if known[room] || room == "" || roomOf(t, room).layer == lab {
			continue
		}
		for _, imported := range p.Imports {
			if slices.Contains(decoders, imported) && deaf()[room] == "" {
				t.Errorf("%s uses %s: put what it parses into the inventory, or the reason why it hears nobody into deaf", room, imported)
			}
		}
	}
}
