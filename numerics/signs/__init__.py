"""The sign of the output of a two-layer network: its probability, from the law of the local fields."""
