"""One candidate of a rival each: it prints a line when it leads, and goes on until it is killed."""
