package credential

import (
	"strings"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/secret"
)

// What is ours stays here, whatever stands around it; what is somebody else's is not taken
// for ours, or a login that was there before would be gone.
func TestFormsOfOursAndOthers(t *testing.T) {
	const app = "k7m2q9-4hw8t-9n3xc-0v5gb-e1r7d-zk2y6p"
	random := strings.Repeat("Ab_-9", 8) + "xyz"
	for _, c := range []struct {
		text string
		want bool
	}{
		{app, true}, {strings.ToUpper(app), true}, {strings.ReplaceAll(app, "-", ""), true}, {"\"" + app + "\"", true}, {"<" + app + ">.", true}, {app + "\n", true},
		{"llat_" + random, true}, {"Bearer llat_" + random, true}, {"bearer\tLLRT_" + random, true}, {"'llat_" + random + "'", true}, {"token=llcs_" + random, true},
		{"llc_" + random, true}, {"user:llrg_" + random, true}, {"Llat_right", true}, {"llrt_x", true},
		{"", false}, {"hunter2", false}, {"llat_", false}, {"a well_known phrase", false}, {"pull_request", false}, {"my llama_is_here", false},
		{"6ba7b810-9dad-11d1-80b4-00c04fd430c8", false}, {"6BA7B810-9DAD-11D1-80B4-00C04FD430C8", false}, {"d41d8cd98f00b204e9800998ecf8427e", false},
		{"correct horse battery staple", false}, {"eyJhbGciOiJxllat_" + random, false}, {"eyJhbGciOiJ_llc_" + random, false},
	} {
		if got := HasForm(secret.New(c.text)); got != c.want {
			t.Errorf("HasForm of %q is %t", c.text, got)
		}
	}
}
