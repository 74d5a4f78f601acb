package database

import "errors"

var errBackup = errors.New("backup")
