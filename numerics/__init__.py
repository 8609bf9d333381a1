"""Solvers on the generated formulas: problem records, drift, integration in time, errors, the oracle.

Names are imported on first use, so that `import quenched.numerics` stays fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
