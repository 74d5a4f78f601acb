package delivery

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
)

// TestDialPublic: a policy host is a name that a stranger chose.
func TestDialPublic(t *testing.T) {
	w := &world{ips: map[string][]string{
		"mta-sts.in.test":   {"10.0.0.1", "127.0.0.1", "::1", "169.254.169.254", "fd00::1", "64:ff9b::7f00:1"},
		"mta-sts.both.test": {"192.168.1.1", ip1, ip2}, "mta-sts.down.test": {ip1, ip6},
	}}
	var dialed []string
	dial := DialPublic(w, func(_ context.Context, _, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		if address == net.JoinHostPort(ip2, "443") {
			client, server := net.Pipe()
			t.Cleanup(func() { server.Close() })
			return client, nil
		}
		return nil, errors.New("refused")
	})
	for address, want := range map[string]struct {
		fault  string
		dialed []string
	}{
		"mta-sts.in.test:443":   {"private network", nil},
		"mta-sts.none.test:443": {"look up mta-sts.none.test", nil},
		"mta-sts.both.test:443": {"", []string{ip1 + ":443", ip2 + ":443"}},
		"mta-sts.down.test:443": {"refused", []string{ip1 + ":443", "[" + ip6 + "]:443"}},
		"no port":               {"missing port", nil},
	} {
		dialed = nil
		conn, err := dial(t.Context(), "tcp", address)
		if conn != nil {
			conn.Close()
		}
		if !slices.Equal(dialed, want.dialed) || (err == nil) != (want.fault == "") || err != nil && !strings.Contains(err.Error(), want.fault) {
			t.Errorf("%s: dialed %v, %v", address, dialed, err)
		}
	}
}
