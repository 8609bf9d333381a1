"""Statistical-physics theory of learning: learning curves that are derived, solved, simulated and compared.

The root of the repository is this package; its four folders are `quenched.symbolic`, `quenched.theory`,
`quenched.numerics` and `quenched.sim`, of which nothing is imported here.

    >>> import quenched
    >>> quenched.__version__.count(".")
    2
"""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("quenched")
