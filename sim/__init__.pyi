# What the package exports, and where it lives: `__init__.py` reads this file, and so do type checkers.

from .amp import simulate_amp as simulate_amp
from .drawing.plot import plot as plot
from .kernel_ridge import simulate_kernel as simulate_kernel
from .kernel_ridge import simulate_lazy as simulate_lazy
from .random_features import simulate_features as simulate_features
from .referee.compare import compare as compare
from .specifications import read_problem as read_problem
from .specifications import read_spec as read_spec
from .sweeps import Sweep as Sweep
from .sweeps import sweep as sweep
from .training import simulate as simulate
