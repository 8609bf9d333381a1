"""Gaussian averages, normal probabilities, quadrature: numbers for the generated formulas."""
