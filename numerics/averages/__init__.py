"""Averages over the local fields: of activations, teachers and losses, and what they are certified against."""
