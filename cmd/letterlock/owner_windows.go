package main

import "io/fs"

func isOurs(fs.FileInfo) bool { return true }
