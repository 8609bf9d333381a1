"""Kronrod's rule of 21 points around Gauss's of 10, and the Legendre series of what its nodes have seen.

R. Piessens et al., QUADPACK, 1983.  The rule on [-1, 1] is symmetric: nodes and weights are those of [0, 1], from the
centre outwards.  Plain constants, because compiled code takes them in as such.
"""

from __future__ import annotations

import numpy as np

__all__ = ["COEFFICIENTS", "ENDS", "GAUSS", "KRONROD", "NODES"]

NODES = np.array(
    [0.0, 0.148874338981631210884826001129720, 0.294392862701460198131126602309943, 0.433395394129247190799265943165784,
     0.562757134668604683339000099272694, 0.679409568299024406234327365114874, 0.780817726586416897063717578345042,
     0.865063366688984510732096688423493, 0.930157491355708226001207180059508, 0.973906528517171720077964012084452,
     0.995657163025808080735527280689003]
)  # fmt: skip
KRONROD = np.array(
    [0.149445554002916905664936468389821, 0.147739104901338491374841515972068, 0.142775938577060080797094273138717,
     0.134709217311473325928054001771707, 0.123491976262065851077958109342585, 0.109387158802297641899210590325805,
     0.093125454583697605535065465083366, 0.075039674810919952767043140916190, 0.054755896574351996031381300244580,
     0.032558162307964727478818972459390, 0.011694638867371874278064396062192]
)  # fmt: skip
GAUSS = np.zeros(11)  # on the same nodes, of which Gauss's rule has every second one
GAUSS[1::2] = np.polynomial.legendre.leggauss(10)[1][5:]

_ALL = np.concatenate([-NODES[:0:-1], NODES])
# the first 16 Legendre coefficients of an integrand from its values at the 21 nodes, from the left
COEFFICIENTS = np.polynomial.legendre.legvander(_ALL, 15).T * np.concatenate([KRONROD[:0:-1], KRONROD])
COEFFICIENTS *= np.arange(16)[:, None] + 0.5
# the polynomial through those values, at both ends
ENDS = np.linalg.solve(
    np.polynomial.legendre.legvander(_ALL, 20).T, np.polynomial.legendre.legvander(np.array([-1.0, 1.0]), 20).T
).T
