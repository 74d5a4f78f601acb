//go:build unix

package mailauth

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"crypto/rand"

	"github.com/letterlock-mail/letterlock/internal/server/credential"
	"github.com/letterlock-mail/letterlock/internal/server/identity"
)

// The benchmarks have a Door that answers at once: what they measure is this package
// and a Unix socket. Goal: 10,000 answers a second on one core.
//
//	go test -run '^$' -bench . -cpu 1 ./internal/server/mailauth

// BenchmarkSASL is one Postfix: one connection, one question at a time.
func BenchmarkSASL(b *testing.B) {
	for _, c := range []struct {
		name, question string
		inFlight       int
	}{
		{"PLAIN/serial", begin(1, "PLAIN", good), 1},
		{"PLAIN/32 in flight", begin(1, "PLAIN", good), 32},
		{"XOAUTH2/serial", begin(1, "XOAUTH2", "user=ann@example.org\x01auth=Bearer llat_right\x01\x01"), 1},
		{"XOAUTH2/32 in flight", begin(1, "XOAUTH2", "user=ann@example.org\x01auth=Bearer llat_right\x01\x01"), 32},
	} {
		b.Run(c.name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "auth")
			listener, err := net.Listen("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() {
				ended <- NewSASL(SASLOptions{Door: instant{}, Log: quietLog(), Now: time.Now, Random: rand.Reader}).Serve(ctx, listener)
			}()
			conn, err := net.Dial("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			r := bufio.NewReader(conn)
			_, _ = io.WriteString(conn, "VERSION\t1\t2\nCPID\t1\n")
			for line := ""; line != "DONE\n"; {
				if line, err = r.ReadString('\n'); err != nil {
					b.Fatal(err)
				}
			}
			places := make(chan struct{}, c.inFlight)
			wrong := make(chan string, 1)
			read := make(chan struct{})
			n := b.N
			b.ResetTimer()
			spent := processor()
			go func() {
				defer close(read)
				for range n {
					line, err := r.ReadString('\n')
					if err != nil || !strings.HasPrefix(line, "OK\t") {
						wrong <- line
						return
					}
					<-places
				}
			}()
			before, after, _ := strings.Cut(c.question, "\t1\t")
			for i := range n {
				places <- struct{}{}
				_, _ = io.WriteString(conn, before+"\t"+strconv.Itoa(i+1)+"\t"+after+"\n")
			}
			select {
			case <-read:
			case line := <-wrong:
				b.Fatalf("answered %q", line)
			}
			report(b, spent)
			conn.Close()
			stop()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkHTTP is Dovecot's questions over kept connections on a Unix socket.
func BenchmarkHTTP(b *testing.B) {
	for _, c := range []struct{ name, path, form, want string }{
		{"introspect", "/dovecot/introspect", "token=llat_right&client_id=dovecot&client_secret=dove-secret", `{"active":true`},
		{"password", "/dovecot/password", "grant_type=password&username=ann%40example.org&password=right-password&client_id=dovecot&client_secret=dove-secret", `{"access_token":"none","token_type":"Bearer","active":true`},
	} {
		b.Run(c.name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "http")
			listener, err := net.Listen("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			server := &http.Server{Handler: endpoints(instant{})}
			go func() { _ = server.Serve(listener) }()
			defer server.Close()
			conn, err := net.Dial("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			// Written and read by hand: Go's client would cost more than the server.
			request := "POST " + c.path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
				"X-Dovecot-Auth-Service: imap\r\nX-Dovecot-Auth-Remote: 192.0.2.9:4711\r\nContent-Length: " + strconv.Itoa(len(c.form)) + "\r\n\r\n" + c.form
			r := bufio.NewReader(conn)
			spent := processor()
			for b.Loop() {
				if _, err := io.WriteString(conn, request); err != nil {
					b.Fatal(err)
				}
				response, err := http.ReadResponse(r, nil)
				if err != nil {
					b.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				if err != nil || response.StatusCode != 200 || !strings.HasPrefix(string(body), c.want) {
					b.Fatalf("%d %s %v", response.StatusCode, body, err)
				}
			}
			report(b, spent)
		})
	}
}

// processor is the time that this process has had on processors.
func processor() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// report tells the rate by the clock, and by processor time, which neighbours on the
// machine do not change: that one includes the asking side.
func report(b *testing.B, spent time.Duration) {
	spent = processor() - spent
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
	b.ReportMetric(float64(b.N)/spent.Seconds(), "answers/cpu-s")
}

// instant is a Door that has nothing to do.
type instant struct{}

func (instant) Password(context.Context, credential.Presented) (credential.Verdict, error) {
	return credential.Verdict{Person: identity.Person{ID: "p1", Address: "ann@example.org"}, Login: "ann@example.org"}, nil
}

func (i instant) Token(ctx context.Context, p credential.Presented) (credential.Verdict, error) {
	return i.Password(ctx, p)
}
