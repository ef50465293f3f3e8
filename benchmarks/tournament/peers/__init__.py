"""One program per entrant: it takes the turns that it is asked to, from its standard input, until that ends."""
