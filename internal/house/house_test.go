// Package house holds no code: its tests keep the house in order. They compare the
// imports, the start-up and the shape of every package with the rules of
// docs/design.md section 2, which stand here as data.
package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/letterlock-mail/letterlock/"

// A layer says what kind of room a package is; arrows run from main to leaf.
type layer int

const (
	main       layer = iota // wires everything, may import everything of its wing
	public                  // letterlock.go, a cover over client nouns
	capability              // a room that does one thing; knows nouns and leaves
	noun                    // what the rooms talk about; knows nouns below it and leaves
	leaf                    // knows neither wing
	lab                     // tests and cmd/try only
)

// A wing is a half of the house; the halves do not know each other.
type wing int

const (
	none wing = iota
	client
	server
	mail
	both // cmd/try links both wings
)

type room struct {
	layer layer
	wing  wing
	// also lists imports that the general rule would refuse, each with its reason in
	// docs/design.md: capabilities that stand on one other capability.
	also []string
}

// rooms is the import table. A package that is missing here fails the test: a new
// room is a decision, not an accident.
func rooms() map[string]room {
	return map[string]room{
		"":                       {layer: public, wing: client, also: []string{"internal/config"}},
		"cmd/letterlock":         {layer: main, wing: client},
		"cmd/letterlock/e2e":     {layer: lab, wing: client},
		"cmd/letterlockd":        {layer: main, wing: server},
		"cmd/try":                {layer: main, wing: both},
		"cmd/letterlock/callers": {layer: lab, wing: client},

		"internal/atomicfile": {layer: leaf},
		"internal/cli":        {layer: leaf},
		"internal/config":     {layer: leaf},
		"internal/daemon":     {layer: leaf},
		"internal/dnsask":     {layer: leaf},
		"internal/command":    {layer: leaf},
		"internal/oauth":      {layer: leaf},
		"internal/provider":   {layer: leaf},
		"internal/sasl":       {layer: leaf},
		"internal/peercred":   {layer: leaf},
		"internal/secret":     {layer: leaf},
		"internal/trust":      {layer: leaf},

		"internal/client/account":    {layer: noun, wing: client},
		"internal/client/tokenstore": {layer: noun, wing: client},
		"internal/client/discovery":  {layer: capability, wing: client},
		"internal/client/login":      {layer: capability, wing: client},
		"internal/client/probe":      {layer: capability, wing: client, also: []string{"internal/client/upstream"}},
		"internal/client/agent":      {layer: capability, wing: client},
		"internal/client/intake":     {layer: capability, wing: client},
		"internal/client/recipe":     {layer: capability, wing: client},
		"internal/client/sendmail":   {layer: capability, wing: client},
		"internal/client/takeover":   {layer: capability, wing: client},
		"internal/client/upstream":   {layer: capability, wing: client},

		"internal/mail/delivery": {layer: capability, wing: mail},
		"internal/mail/domain":   {layer: capability, wing: mail},
		"internal/mail/message":  {layer: noun, wing: mail},
		"internal/mail/mtasts":   {layer: leaf, wing: mail},
		"internal/mail/queue":    {layer: noun, wing: mail},

		"internal/server/authserver":           {layer: capability, wing: server},
		"internal/server/authserver/storetest": {layer: lab, wing: both},
		"internal/server/database":             {layer: capability, wing: server},
		"internal/server/credential":           {layer: noun, wing: server},
		"internal/server/database/storetest":   {layer: lab, wing: both},
		"internal/server/doctor":               {layer: capability, wing: server},
		"internal/server/hook":                 {layer: capability, wing: server},
		"internal/server/factor":               {layer: noun, wing: server},
		"internal/server/github":               {layer: leaf, wing: server},
		"internal/server/gateway":              {layer: capability, wing: server},
		"internal/server/identity":             {layer: noun, wing: server},
		"internal/server/issuer":               {layer: capability, wing: server},
		"internal/server/meter":                {layer: capability, wing: server},
		"internal/server/recipe":               {layer: capability, wing: server},
		"internal/server/tally":                {layer: capability, wing: server},
		"internal/server/membership":           {layer: capability, wing: server},
		"internal/server/scim":                 {layer: capability, wing: server},
		"internal/server/throttle":             {layer: noun, wing: server},
		"internal/server/mailauth":             {layer: capability, wing: server},
		"internal/server/senders":              {layer: capability, wing: server},
		"internal/server/signin":               {layer: capability, wing: server},
		"internal/server/portal":               {layer: capability, wing: server},
		"internal/server/web":                  {layer: noun, wing: server},

		"internal/house": {layer: lab},
	}
}

// labPrefix: every folder below it is for tests and cmd/try.
const labPrefix = "internal/lab"

func roomOf(t *testing.T, path string) room {
	t.Helper()
	if path == labPrefix || strings.HasPrefix(path, labPrefix+"/") || strings.HasPrefix(path, "bench") {
		return room{layer: lab, wing: both}
	}
	r, ok := rooms()[path]
	if !ok {
		t.Errorf("package %q has no room in the import table of internal/house", path)
	}
	return r
}

type listed struct {
	ImportPath, Name, Doc string
	Dir                   string
	GoFiles, CgoFiles     []string
	TestGoFiles           []string
	XTestGoFiles          []string
	Imports               []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-tags", "lab long", "-json=ImportPath,Name,Doc,Dir,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, strings.TrimSuffix(module, "/")), "/")
}

// TestImportTable compares the real imports with the table.
func TestImportTable(t *testing.T) {
	for _, p := range packages(t) {
		from := short(p.ImportPath)
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module) {
				continue
			}
			to := short(imported)
			if !allowed(roomOf(t, from), roomOf(t, to), to) {
				t.Errorf("%s imports %s: against the arrows of docs/design.md section 2", from, to)
			}
		}
	}
}

func allowed(from, to room, path string) bool {
	switch {
	case from.layer == lab, slices.Contains(from.also, path):
		return true
	case to.layer == lab:
		return from.wing == both // cmd/try
	case from.wing == both:
		return true
	case path == "internal/config":
		return from.layer == main // main turns configuration into arguments
	case from.layer == leaf:
		return to.layer == leaf
	case to.wing != none && to.wing != mail && to.wing != from.wing:
		return false // the wings do not know each other
	case from.layer == main:
		return to.layer != main
	case from.layer == capability, from.layer == public:
		return to.layer == noun || to.layer == leaf
	case from.layer == noun:
		return to.layer == noun || to.layer == leaf
	}
	return false
}

// TestForeignImports keeps some knowledge in one room.
func TestForeignImports(t *testing.T) {
	only := map[string][]string{
		"database/sql":              {"internal/server/database"},
		"html/template":             {"internal/server/web", "internal/server/portal", "internal/server/authserver"},
		"github.com/spf13/cobra":    {"cmd/letterlock", "cmd/letterlockd", "internal/command"},
		"github.com/godbus/dbus/v5": {"internal/client/tokenstore", "internal/client/agent"},
		"filippo.io/age":            {"internal/client/tokenstore", "internal/client/account"},
	}
	for _, p := range packages(t) {
		from := short(p.ImportPath)
		if roomOf(t, from).layer == lab {
			continue
		}
		for _, imported := range p.Imports {
			if where, kept := only[imported]; kept && !slices.Contains(where, from) {
				t.Errorf("%s imports %s, which only %v may", from, imported, where)
			}
		}
	}
}

// TestNoTestCodeInProducts keeps test modules out of what is installed.
func TestNoTestCodeInProducts(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/letterlock")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, path := range strings.Fields(string(out)) {
		for _, banned := range []string{"testing", module + "internal/lab", module + "internal/server", "pgregory.net/rapid",
			"github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "github.com/chromedp", "go.uber.org/goleak", "github.com/emersion/go-imap"} {
			if path == banned || strings.HasPrefix(path, banned+"/") {
				t.Errorf("letterlock links %s", path)
			}
		}
	}
}
