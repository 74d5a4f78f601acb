//go:build lab && !long

package main

// plantEvery: make test plants one trap in three; the tables have all of them.
const plantEvery = 3
