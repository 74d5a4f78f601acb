package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The limits of CONTRIBUTING.md: a file stops at 600 lines, a function at 120.
const (
	maxFile     = 600
	maxFunction = 120
)

type source struct {
	room  string // package path inside the module
	name  string // file name for messages
	test  bool
	files *token.FileSet
	ast   *ast.File
}

// sources parses every Go file of the module, whatever its build tags.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	seen := map[string]bool{}
	for _, p := range packages(t) {
		names, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			files := token.NewFileSet()
			tree, err := parser.ParseFile(files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, source{
				room: short(p.ImportPath), name: short(p.ImportPath) + "/" + filepath.Base(name),
				test: strings.HasSuffix(name, "_test.go"), files: files, ast: tree,
			})
		}
	}
	return all
}

// TestPackageDoc wants one comment per package that says what the room is.
func TestPackageDoc(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		documented[s.room] = documented[s.room] || s.ast.Doc != nil && len(s.ast.Doc.Text()) > 40
	}
	for room, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", room)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if lines := s.files.File(s.ast.Pos()).LineCount(); lines > maxFile {
			t.Errorf("%s has %d lines, over %d", s.name, lines, maxFile)
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.files.Position(f.End()).Line - s.files.Position(f.Pos()).Line + 1; n > maxFunction {
				t.Errorf("%s: %s has %d lines, over %d", s.name, f.Name.Name, n, maxFunction)
			}
		}
	}
}

// TestNoHiddenState refuses init functions and package variables that are computed
// or can change: start-up work that every cron job would pay for, and state that no
// caller sees.
func TestNoHiddenState(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, d := range s.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == "init" && d.Recv == nil {
					t.Errorf("%s: func init", s.name)
				}
			case *ast.GenDecl:
				checkVariables(t, s, d)
			}
		}
	}
}

func checkVariables(t *testing.T, s source, d *ast.GenDecl) {
	t.Helper()
	if d.Tok != token.VAR {
		return
	}
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		if v.Names[0].Name == "_" || embedded(d) {
			continue
		}
		if len(v.Values) == 0 && s.room == "cmd/letterlock" && v.Names[0].Name == "version" {
			continue // set by the linker
		}
		if len(v.Values) != 1 || !constantLike(v.Values[0]) {
			t.Errorf("%s: package variable %s is computed or can change", s.name, v.Names[0].Name)
		}
	}
}

func embedded(d *ast.GenDecl) bool {
	return d.Doc != nil && strings.Contains(commentText(d.Doc), "//go:embed")
}

func commentText(group *ast.CommentGroup) string {
	var b strings.Builder
	for _, c := range group.List {
		b.WriteString(c.Text + "\n")
	}
	return b.String()
}

// constantLike accepts sentinel errors and tables that are built when first used.
func constantLike(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	name := f.Sel.Name
	if x, ok := f.X.(*ast.Ident); ok {
		name = x.Name + "." + name
	}
	switch name {
	case "errors.New", "fmt.Errorf", "sync.OnceValue", "sync.OnceValues":
		return true
	}
	return false
}

// TestHonestTests refuses what makes a test pass without having looked: skips, and
// sleeping instead of waiting for the event.
func TestHonestTests(t *testing.T) {
	for _, s := range sources(t) {
		inLab := roomOf(t, s.room).layer == lab
		if !s.test && !inLab {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			f, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch x, _ := f.X.(*ast.Ident); {
			case x == nil:
			case f.Sel.Name == "Skip" || f.Sel.Name == "Skipf" || f.Sel.Name == "SkipNow":
				t.Errorf("%s skips at line %d: a missing server is a failure", s.name, s.files.Position(f.Pos()).Line)
			case s.test && x.Name == "time" && f.Sel.Name == "Sleep":
				t.Errorf("%s sleeps at line %d: wait for the event", s.name, s.files.Position(f.Pos()).Line)
			}
			return true
		})
	}
}

// TestOnlyMainExits keeps os.Exit and the standard streams out of the rooms.
func TestOnlyMainExits(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || roomOf(t, s.room).layer == lab || roomOf(t, s.room).layer == main {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			f, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := f.X.(*ast.Ident)
			if x == nil {
				return true
			}
			switch name := x.Name + "." + f.Sel.Name; name {
			case "os.Exit", "log.Fatal", "log.Fatalf", "os.Stdout", "fmt.Println", "fmt.Printf", "fmt.Print":
				if name == "os.Stdout" && slices.Contains([]string{"internal/cli", "internal/client/tokenstore"}, s.room) {
					return true // the key sources only ask which terminal it is
				}
				t.Errorf("%s uses %s at line %d: only main exits, only cli prints", s.name, name, s.files.Position(f.Pos()).Line)
			}
			return true
		})
	}
}
