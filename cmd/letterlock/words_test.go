package main

import (
	"slices"
	"testing"
)

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		"gpg --decrypt":           {"gpg", "--decrypt"},
		"":                        nil,
		`  a  'b c' "d \"e" f\ g`: {"a", "b c", `d "e`, "f g"},
		`a ''`:                    {"a", ""},
		`a'b'"c"`:                 {"abc"},
		"$(id) `id` $HOME *":      {"$(id)", "`id`", "$HOME", "*"},
	} {
		if got, err := splitWords(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{`'a`, `"a`, `a\`} {
		if got, err := splitWords(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}
