"""What the commands do, each in the module of its name; imported once arguments are read."""
