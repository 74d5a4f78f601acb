package tokenstore

import (
	"bytes"
	"os"
	"strconv"
)

// controllingTerminal names the terminal of our session though no file of ours is
// open on it. The seventh field of proc_pid_stat(5) is its device number.
func controllingTerminal() string {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return ""
	}
	// The second field is the program's name in brackets and may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 5 {
		return ""
	}
	number, err := strconv.ParseUint(string(fields[4]), 10, 32)
	if err != nil {
		return ""
	}
	return terminalName(number>>8&0xfff, number&0xff|number>>12&0xfff00)
}

// terminalName knows the two kinds of terminal that people sit at, as in
// devices.txt of the kernel: 136 to 143 are pseudo terminals, 4 the console's.
func terminalName(major, minor uint64) string {
	name := ""
	switch {
	case major >= 136 && major <= 143:
		name = "/dev/pts/" + strconv.FormatUint((major-136)<<8+minor, 10)
	case major == 4 && minor < 64:
		name = "/dev/tty" + strconv.FormatUint(minor, 10)
	}
	if name == "" || !isDevice(name) {
		return ""
	}
	return name
}
