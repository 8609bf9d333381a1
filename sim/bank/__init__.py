"""The reference bank: high-precision results, each with an independent check that its user can repeat.

`bank.json` is the table, for any program to read; `records` reads and verifies it; `problems` is the package's way to a
result; `by_averages`, `by_mixtures`, `by_networks`, `by_lazy` and `by_replica` hold the independent routes, which use
neither `quenched.theory` nor the solvers, but where the record says so.  They share with the solvers the nodes of
Gauss-Legendre (`legendre`) and contexts of mpmath (`context`).
"""

__all__: list[str] = []
