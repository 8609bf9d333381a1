"""The calculus of Gaussian averages: the only place where averages are taken."""
