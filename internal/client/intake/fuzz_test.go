package intake

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
)

// Whatever a peer sends is read within its bounds, and what is taken for a submission
// is one that encodes to itself.
func FuzzSubmission(f *testing.F) {
	sender := "me@x"
	good := Submission{ID: strings.Repeat("a", 26), Recipients: []string{"b@x", "root"}, Sender: &sender, Notify: "SUCCESS,DELAY", Return: "HDRS"}
	head, err := good.encode(7)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(head, "message"...))
	f.Add([]byte("LETTERLOCK SUBMIT 1 2 0\n{}"))
	f.Add([]byte("LETTERLOCK SUBMIT 1 99999999999999999999 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReader(bytes.NewReader(data))
		s, size, err := readSubmission(r)
		if err != nil {
			return
		}
		if size < 0 || s.check() != nil || !validID(s.ID) {
			t.Fatalf("accepted %+v, %d", s, size)
		}
		for _, text := range append([]string{s.Name, s.Account, s.EnvelopeID}, s.Recipients...) {
			if strings.ContainsAny(text, "\r\n\x00") {
				t.Fatalf("a line break got through: %q", text)
			}
		}
		again, err := s.encode(size)
		if err != nil {
			t.Fatal(err)
		}
		if same, n, err := readSubmission(bufio.NewReader(bytes.NewReader(again))); err != nil || n != size || same.ID != s.ID || len(same.Recipients) != len(s.Recipients) {
			t.Fatalf("%+v became %+v, %v", s, same, err)
		}
		if _, err := io.Copy(io.Discard, &exact{r: r, left: size}); err == nil && int64(len(data)) < size {
			t.Fatal("a message that ended early was taken for whole")
		}
	})
}

// Whatever a server answers is read within its bounds.
func FuzzAnswer(f *testing.F) {
	line, err := Answer{Code: 77, What: "no", Hint: "ask"}.line()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"v":1,"code":0,"id":"x","again":true}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := readAnswer(bufio.NewReader(bytes.NewReader(data)))
		if err == nil && a.Version != Version {
			t.Fatalf("accepted %+v", a)
		}
		if text, err := a.line(); err != nil || bytes.Count(text, []byte("\n")) != 1 || len(text) > maxAnswer {
			t.Fatalf("%q, %v", text, err)
		}
	})
}
