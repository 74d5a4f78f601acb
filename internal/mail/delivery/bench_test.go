package delivery

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/lab"
	"github.com/letterlock-mail/letterlock/internal/mail/queue"
	"github.com/letterlock-mail/letterlock/internal/provider"
)

// message1900 is the message of the baselines: 1.9 KB.
func message1900() string {
	return "From: you@try.test\r\nTo: a@x.test\r\nSubject: baseline\r\nMessage-ID: <1@try.test>\r\n\r\n" + strings.Repeat(strings.Repeat("x", 68)+"\r\n", 26)
}

func benchRoute(b *testing.B) Route {
	ca := lab.RunCA(b)
	sink := lab.RunSink(b, lab.SinkOptions{TLS: serverTLS(b, ca), Check: func(_, token string) bool { return token == testToken }})
	r := submission(provider.STARTTLS, &net.TCPAddr{Port: sink.Port}, ca.Client(), &tokens{list: []string{testToken}})
	r.Mechanisms = []string{"XOAUTH2"}
	return r
}

// BenchmarkOne is one message with a connection, STARTTLS and XOAUTH2 of its own.
func BenchmarkOne(b *testing.B) {
	r, text := benchRoute(b), message1900()
	for b.Loop() {
		c := carrier(b, r, nil)
		if got := carry(b, c, envelope("you@try.test", "a@x.test"), text); got[0].Verdict != queue.Delivered {
			b.Fatal(got)
		}
		c.Close()
	}
}

// BenchmarkDrain1000 is 1,000 messages to one server, as many at once as the pool lets.
func BenchmarkDrain1000(b *testing.B) {
	for _, connections := range []int{1, 4} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			r, text := benchRoute(b), message1900()
			for b.Loop() {
				c := carrier(b, r, func(o *Options) { o.Connections = connections })
				var wait sync.WaitGroup
				work := make(chan int)
				for range connections * 2 {
					wait.Go(func() {
						for i := range work {
							if got := carry(b, c, envelope("you@try.test", fmt.Sprintf("r%d@x.test", i)), text); got[0].Verdict != queue.Delivered {
								b.Error(got)
							}
						}
					})
				}
				for i := range 1000 {
					work <- i
				}
				close(work)
				wait.Wait()
				c.Close()
			}
			b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "mails/s")
		})
	}
}
