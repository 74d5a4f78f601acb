//go:build lab

package e2e

// thorough says that `make test` runs, and not `make quick`.
const thorough = true
