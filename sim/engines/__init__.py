"""Engines: ways to simulate one learning rule, behind one protocol."""
