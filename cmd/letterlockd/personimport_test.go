package main

import "testing"

// Whatever a file of persons holds, it is refused or read; JSON and CSV of the same
// people give the same people.
func FuzzNewcomers(f *testing.F) {
	f.Add([]byte("address,name,admin\nann@example.org,Ann,true\n"))
	f.Add([]byte("[{\"address\":\"ann@example.org\"}]"))
	f.Add([]byte("\xef\xbb\xbfAddress\n\"a\"\"@x\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseNewcomers(data)
		if err != nil && all != nil {
			t.Fatalf("half of a refused file: %v", all)
		}
	})
}

func TestNewcomersAlike(t *testing.T) {
	a, err := parseNewcomers([]byte("admin,address,name\ntrue,ann@example.org,Ann\n"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseNewcomers([]byte(`[{"address": "ann@example.org", "name": "Ann", "admin": true}]`))
	if err != nil || len(a) != 1 || len(b) != 1 || a[0] != b[0] {
		t.Errorf("%v, %v, %v", a, b, err)
	}
}
