"""What saddle points share: a solver that converges or says why not, branches, continuation in a parameter."""

__all__: list[str] = []
