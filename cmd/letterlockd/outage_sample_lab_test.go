//go:build lab && !long

package main

// everyOutage: make long has the database hang and be killed too, and storms of whole
// networks blow.
const everyOutage = false
