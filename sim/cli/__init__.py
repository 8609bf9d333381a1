"""The command `quenched`."""
