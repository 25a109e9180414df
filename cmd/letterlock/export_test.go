package main

// Main is for the scripts, which run it as the letterlock command.
var Main = main
