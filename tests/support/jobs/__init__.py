"""Jobs that tests run. Named as the bundled ones are, so that it also shows which one is found first."""
