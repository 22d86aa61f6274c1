"""The tasks: one file each, found by themselves."""
