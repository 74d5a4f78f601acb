package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const canary = "c4n4ry-7f3a"

func TestNothingPrintsASecret(t *testing.T) {
	type nested struct {
		name  string
		token String
	}
	s := New(canary)
	values := []any{s, &s, []String{s}, map[string]String{"k": s}, nested{"n", s}, &nested{"n", s}, struct{ N nested }{nested{"n", s}}}
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10s", "%w"}
	for _, value := range values {
		for _, verb := range verbs {
			out := fmt.Sprintf(verb, value)
			if strings.Contains(out, canary) || strings.Contains(out, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s of %T prints the secret: %s", verb, value, out)
			}
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "nested", nested{"n", s}, "any", slog.AnyValue(s))
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "nested", nested{"n", s})
	if strings.Contains(log.String(), canary) {
		t.Errorf("slog prints the secret: %s", log.String())
	}
}

func TestEncodersRefuse(t *testing.T) {
	out, err := json.Marshal(struct{ S String }{New(canary)})
	if !errors.Is(err, ErrEncoded) || bytes.Contains(out, []byte(canary)) {
		t.Errorf("json.Marshal = %s, %v", out, err)
	}
}

func TestDecodeAndReveal(t *testing.T) {
	var got struct{ S String }
	if err := json.Unmarshal([]byte(`{"S":"`+canary+`"}`), &got); err != nil {
		t.Fatal(err)
	}
	if got.S.Reveal() != canary || got.S.IsZero() || !got.S.Equal(New(canary)) || got.S.Equal(New("other")) {
		t.Error("the secret did not come through")
	}
	var zero String
	if !zero.IsZero() || zero.Reveal() != "" || !zero.Equal(New("")) {
		t.Error("the zero secret is not empty")
	}
}
