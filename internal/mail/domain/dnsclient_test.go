package domain

import (
	"net"
	"testing"

	"github.com/miekg/dns"
)

// serveDNS runs handler on one loopback port by UDP and TCP.
func serveDNS(t testing.TB, handler dns.Handler) string {
	t.Helper()
	tcp, packets := listenBoth(t)
	started := make(chan struct{}, 2)
	done := make(chan error, 2)
	servers := []*dns.Server{{Listener: tcp, Handler: handler}, {PacketConn: packets, Handler: handler}}
	for _, s := range servers {
		s.NotifyStartedFunc = func() { started <- struct{}{} }
		go func() { done <- s.ActivateAndServe() }()
	}
	<-started
	<-started
	t.Cleanup(func() {
		for _, s := range servers {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return tcp.Addr().String()
}

// listenBoth finds a port that is free for both.
func listenBoth(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		packets, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, packets
		}
		tcp.Close()
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}
