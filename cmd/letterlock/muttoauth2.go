package main

const muttName = "mutt_oauth2.py"
