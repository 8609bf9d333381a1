"""The figures of `quenched reproduce`."""
