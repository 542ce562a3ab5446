"""The commands: what the scripts in ``tools`` call."""
