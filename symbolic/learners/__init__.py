"""One module a learner: its derivation, from its definition to the formulas that are generated."""
