//go:build lab && long

package main

// plantEvery: make long plants every trap.
const plantEvery = 1
