package identity

import "testing"

func TestOutsideClient(t *testing.T) {
	for _, c := range []struct{ issuer, client string }{{"https://op.test/realms/a", "webmail"}, {"https://op.test", "a client: of mine"}, {"https://op.test", ""}} {
		issuer, client, ok := OutsideClient(c.issuer, c.client).Outside()
		if issuer != c.issuer || client != c.client || !ok {
			t.Errorf("%v becomes %q, %q, %t", c, issuer, client, ok)
		}
	}
	for _, id := range []ClientID{"", "webmail", GatewayClient("webmail"), "outside:x"} {
		if _, _, ok := id.Outside(); ok {
			t.Errorf("%q is taken for another issuer's", id)
		}
	}
}
