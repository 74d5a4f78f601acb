package message

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	in := "From: root (Crön Daemon)\nTo: Bob <b@x>, root, G: a@x, \"q u\"@x;\nBcc: c@x,\n d@x\nSubject: Grüße aus\n München heute\n\nhallo ü\n" + strings.Repeat("x", 1200) + "\n.\nend"
	m, err := Read(strings.NewReader(in), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Recipients()
	fmt.Println(r, err)
	m.StripBcc()
	if err := m.Complete(Completion{From: Mailbox{Name: "Jörg", Address: "root"}, Domain: "h.example", Host: "h", Now: time.Now(), Random: rand.Reader}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	io.Copy(&b, m.Reader())
	fmt.Println(b.String()[:600], int64(b.Len()) == m.Size(), m.Requirements())
	p, err := Prepare(m.Reader(), Capabilities{})
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	p.WriteTo(&b)
	fmt.Println(b.String(), p.Requirements(), p.Size() == int64(b.Len()))
}
