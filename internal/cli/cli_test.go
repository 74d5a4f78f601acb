package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		err  error
		code Code
		want string
	}{
		{nil, OK, ""},
		{errors.New("plain\nfault"), Software, "p: plain fault\n"},
		{Faultf(NoUser, "look", "no %s", "x"), NoUser, "p: no x\np: hint: look\n"},
		{fmt.Errorf("while: %w", Wrap(TempFail, cause, "")), TempFail, "p: while: cause\n"},
		{&Fault{Code: Config, What: "a", Details: []string{"b\x1b[2J", "c"}, Hint: "d"}, Config, "p: a\np: b?[2J\np: c\np: hint: d\n"},
	} {
		var out bytes.Buffer
		if code := Report(&out, "p", c.err); code != c.code || out.String() != c.want {
			t.Errorf("%v: %d %q, want %d %q", c.err, code, out.String(), c.code, c.want)
		}
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\nb":                  "a  b",
		"\x1b]0;x\x07":            "?]0;x?",
		"ab\u202ecd\u200b\ufeff":  "ab?cd??",
		"grüße":                   "grüße",
		strings.Repeat("x", 1001): strings.Repeat("x", 1000) + " …",
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAskFromAPipe(t *testing.T) {
	var out bytes.Buffer
	term := &Terminal{In: strings.NewReader("one\r\ntwo\nyes\nthree"), Err: &out}
	one, _ := term.Ask(t.Context(), "q1: ")
	two, _ := term.AskHidden(t.Context(), "q2: ")
	yes, _ := term.Confirm(t.Context(), "sure?")
	three, _ := term.Ask(t.Context(), "")
	_, err := term.Ask(t.Context(), "")
	if one != "one" || two != "two" || !yes || three != "three" || !errors.Is(err, ErrNobody) {
		t.Errorf("%q %q %v %q %v", one, two, yes, three, err)
	}
	if strings.Contains(out.String(), "two") {
		t.Errorf("the hidden answer was shown: %q", out.String())
	}
	long := &Terminal{In: strings.NewReader(strings.Repeat("x", LineLimit+1)), Err: &out}
	if _, err := long.Ask(t.Context(), ""); err == nil {
		t.Error("an endless line was taken")
	}
}

func TestAskEndsWithTheContext(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	term := &Terminal{In: r, Err: io.Discard}
	if _, err := term.Ask(ctx, ""); !errors.Is(err, stop) {
		t.Errorf("err = %v", err)
	}
}

func TestRawLine(t *testing.T) {
	for in, want := range map[string]string{
		"abc\r":                   "abc",
		"abü\x7fc\r":              "abc",
		"abc\x15d\n":              "d",
		"a\x1b[D\x1bOAb\r":        "ab",
		"\x1b[200~url\x1b[201~\r": "url",
	} {
		if got, err := readRaw(bufio.NewReader(strings.NewReader(in)), io.Discard); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"a\x03", "a\x04", "a"} {
		if _, err := readRaw(bufio.NewReader(strings.NewReader(in)), io.Discard); !errors.Is(err, ErrInterrupted) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	_ = Table(&out, []string{"NAME", "X"}, [][]string{{"ä", "1"}, {"long\x1b[m", ""}})
	if want := "NAME     X\nä        1\nlong?[m\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestLineWriter(t *testing.T) {
	var out bytes.Buffer
	w := LineWriter(&out, "> ")
	fmt.Fprint(w, "a\x1b\nb")
	fmt.Fprint(w, "c\r\nd")
	if out.String() != "> a?\n> bc\n" {
		t.Errorf("%q", out.String())
	}
}

func FuzzRawLine(f *testing.F) {
	f.Add([]byte("a\x7fb\x1b[200~x\r"))
	f.Fuzz(func(t *testing.T, in []byte) {
		line, err := readRaw(bufio.NewReader(bytes.NewReader(in)), io.Discard)
		if err == nil && strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 }) {
			t.Fatalf("%q gave %q", in, line)
		}
	})
}
