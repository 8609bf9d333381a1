"""Normal probabilities as sympy functions: Phi_1 .. Phi_4, with the derivatives that Plackett's identity gives.

Phi_n(h_1..h_n; r_12, r_13, ..) = P(z_1 < h_1, .., z_n < h_n) for jointly normal z of zero mean, unit variance and
correlations r_ij.  Every average of the package ends on these and on elementary functions.
"""

from __future__ import annotations

from itertools import combinations

import mpmath
import sympy

__all__ = ["Phi", "Phi2", "Phi3", "Phi4", "density"]


def density(x: sympy.Expr, variance: sympy.Expr = sympy.Integer(1)) -> sympy.Expr:
    """Normal density of the given variance at distance x from the mean.

    >>> density(sympy.Integer(0), 1 / (2 * sympy.pi))
    1
    """
    return sympy.exp(-(x**2) / (2 * variance)) / sympy.sqrt(2 * sympy.pi * variance)
