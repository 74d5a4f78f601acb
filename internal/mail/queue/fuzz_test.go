package queue

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"strings"
	"testing"
	"time"
)

// Whatever stands in the folder, reading it neither panics nor believes a file
// whose envelope is not as it was written.
func FuzzFile(f *testing.F) {
	q, _ := newQueue(f)
	whole := func(id ID) []byte {
		data, err := os.ReadFile(q.path(id))
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	id := put(f, q, to("b@x", "ü@y"))
	f.Add(whole(id))
	drainOnce(f, q, &script{verdicts: map[string][]Verdict{"b@x": {Deferred}, "ü@y": {Unknown}}}, DrainOptions{})
	f.Add(whole(id))
	f.Add([]byte("LLQ1 00000002 0000000000000000 00000000\n{}"))
	f.Add([]byte("LLQ1 ffffffff ffffffffffffffff 00000000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := readLayout(bytes.NewReader(data))
		if err != nil || l.journal > int64(len(data)) {
			return
		}
		is := parseRecords(data[l.journal:])
		if rest := data[l.journal+int64(is.room):]; len(bytes.Trim(rest, " \n")) != 0 {
			t.Errorf("room over %q", rest)
		}
		s := replay(l, is.records)
		e := s.entry("0123456789abcdef")
		o := DrainOptions{OnUnknown: Resend}.filled()
		s.due(&o)
		s.keys(&o, time.Unix(1e9, 0))
		s.settle()
		if e.Envelope.Size > int64(len(data)) || len(e.Recipients) != len(e.Envelope.To) || len(e.Recipients) == 0 {
			t.Errorf("%+v out of %d bytes", e, len(data))
		}
	})
}

// Whatever a server or a sender wrote, a report is a message of three parts whose
// lines are ours.
func FuzzDSN(f *testing.F) {
	f.Add("a@x", "b@x", "550 5.1.1 no such user", "mx.x", "5.1.1", "rfc822;b@x", "Subject: x\r\nMessage-ID: <1@x>\r\n\r\nbody", true)
	f.Add("ä@x", "ü@x", "550 née\r\nX-Injected: yes", "mx\x00", "9.9", "\r\n\r\n", "=_0123456789abcdef", false)
	f.Add("a@x", "b@x\r\nBcc: evil@x", strings.Repeat("550 long ", 1000), "", "", "", "", true)
	f.Fuzz(func(t *testing.T, from, to, reply, server, status, original, text string, full bool) {
		r := Report{Kind: Failed, ID: "0123456789abcdef", Arrived: time.Unix(0, 0), Now: time.Unix(9, 0), Reporter: Reporter{Host: "h.example"},
			Envelope: Envelope{From: from, To: []Recipient{{Address: to, Original: original}}, Size: int64(len(text))},
			Outcomes: []Outcome{{Recipient: to, Verdict: Refused, Reply: reply, Server: server, Status: status}}, Message: strings.NewReader(text)}
		if full {
			r.Envelope.Return = "FULL"
		}
		out, err := DSN(r)
		if err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(bytes.NewReader(out))
		if err != nil {
			t.Fatalf("%v\n%q", err, out)
		}
		if m.Header.Get("X-Injected") != "" || m.Header.Get("Bcc") != "" || m.Header.Get("Auto-Submitted") == "" {
			t.Fatalf("header: %v", m.Header)
		}
		kind, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/report" {
			t.Fatal(kind, err)
		}
		parts := multipart.NewReader(m.Body, parameters["boundary"])
		for n := 0; ; n++ {
			p, err := parts.NextRawPart()
			if err == io.EOF {
				if n != 3 {
					t.Fatalf("%d parts\n%q", n, out)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%q", err, out)
			}
			content, err := io.ReadAll(p)
			if err != nil {
				t.Fatal(err)
			}
			if n == 1 {
				checkStatus(t, string(content))
			}
		}
	})
}

func checkStatus(t *testing.T, content string) {
	t.Helper()
	if strings.Count(content, "\r\n\r\n") != 1 || strings.Contains(content, "\r\nX-Injected") {
		t.Errorf("status part: %q", content)
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(content, "\r\n\r\n", "\r\n"), "\r\n") {
		name, _, ok := strings.Cut(line, ": ")
		if line != "" && (!ok || strings.ContainsAny(name, " \t\r\n") || len(line) > 998) {
			t.Errorf("status line %q", line)
		}
	}
}
