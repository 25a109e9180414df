package mailservers

// Greets is what a finder over the network asks a server.
var Greets = greets

// Parse reads what a domain publishes.
var Parse = parse
