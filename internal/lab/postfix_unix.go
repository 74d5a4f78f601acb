//go:build unix

package lab

import (
	"fmt"
	"os"
	"strings"
)

// Listening are the smtpd processes that wait for a client, or serve one.
func (p *Postfix) Listening() []int {
	var pids []int
	for _, pid := range children(p.process.Pid()) {
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(name)) == "smtpd" {
			pids = append(pids, pid)
		}
	}
	return pids
}
