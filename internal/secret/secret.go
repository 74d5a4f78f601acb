// Package secret holds strings that must not be seen: tokens, passwords, client
// secrets, PKCE verifiers.
//
// A [String] prints itself as "[redacted]" however it is formatted, logged or
// encoded, also when it sits in an unexported field of a struct that somebody
// prints with %+v. The only way to the value is [String.Reveal], so that a grep
// for Reveal lists every place where a secret leaves its wrapper.
//
// What it does not do: Go cannot promise that a string is wiped from memory.
// The process lowers the risk by refusing core dumps, see package cli.
//
// No library was found that does this and nothing more; memguard locks pages and
// drags a runtime of its own.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Redacted stands wherever a secret would have been printed.
const Redacted = "[redacted]"

// String is a secret text. The zero value is the empty secret.
type String struct {
	// A pointer, because fmt does not call methods on unexported fields: of a
	// pointer below the top level it prints the address and not the text.
	value *string
}

// New wraps a secret.
func New(value string) String {
	if value == "" {
		return String{}
	}
	return String{value: &value}
}

// Reveal returns the secret itself. Call it at the last moment, where the value is
// written to its one rightful receiver.
func (s String) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether the secret is empty.
func (s String) IsZero() bool { return s.value == nil }

// Equal compares in constant time; only the lengths can leak. It also lets go-cmp
// compare structures that hold secrets.
func (s String) Equal(other String) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String implements fmt.Stringer with the redaction mark.
func (s String) String() string { return Redacted }

// GoString implements fmt.GoStringer with the redaction mark.
func (s String) GoString() string { return Redacted }

// Format implements fmt.Formatter, so that no verb prints the value.
func (s String) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, Redacted) }

// LogValue implements slog.LogValuer.
func (s String) LogValue() slog.Value { return slog.StringValue(Redacted) }

// ErrEncoded is what an encoder gets that meets a secret. Stores that must write
// one reveal it into a structure of their own, on purpose and in one place.
var ErrEncoded = errors.New("a secret does not encode itself")

// MarshalText refuses, so that no JSON, TOML or XML encoder leaks a secret or,
// worse, stores the redaction mark in its place.
func (s String) MarshalText() ([]byte, error) { return nil, ErrEncoded }

// UnmarshalText takes a secret from a decoder.
func (s *String) UnmarshalText(text []byte) error {
	*s = New(string(text))
	return nil
}
