"""How formulas are written: notation, reading user expressions, emitting code and LaTeX."""
