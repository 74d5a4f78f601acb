package main

func (p *program) makeRuntimeFolder() error { return nil }
