package cli

import "io"

// An Output is standard output, which remembers whether it took everything: a script
// that reads half a table and an exit code of 0 believes it has all.
type Output struct {
	W   io.Writer
	Err error // the first that occurred
}

// Write implements io.Writer.
func (o *Output) Write(data []byte) (int, error) {
	n, err := o.W.Write(data)
	if err != nil && o.Err == nil {
		o.Err = err
	}
	return n, err
}
