"""Averages across two activations: what the learning equations ask for where a teacher has another g than the network.

A teacher's neurons enter phi - y as those of the network do, with a g of their own.  They do not learn: of the averages
over both, those are needed in which a teacher's field carries g alone (or g^2), and the coupling E[g'(lambda) g*'(nu)].
Nothing is checked in: `quenched.numerics` derives the pair that a problem has on first use.
"""

from __future__ import annotations

from collections.abc import Iterator

from quenched.symbolic import activations
from quenched.symbolic.activations import Activation, Group, group_symbols
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.language.notation import Derived

__all__ = ["KINDS", "across", "layouts"]

KINDS = ((1, 1), (2, 1), (1, 2), (3, 1), (2, 2))
"""How many fields of the network and of the teacher an average has; those of one kind alone are in its own tables."""


def layouts(students: int, teachers: int) -> Iterator[str]:
    """The layouts of `activations.layouts` that occur, fields of the network first.

    >>> list(layouts(2, 2)), [layout for layout in layouts(1, 1) if "*" not in layout]
    (['dg,dg,g,g'], ['ddg,g', 'dg,dg', 'dg,g', 'g,g'])
    """
    for layout in activations.layouts(students + teachers):
        taught = layout.split(",")[students:]
        if all(set(part.split("*")) == {"g"} for part in taught) or (layout == "dg,dg" and students == 1):
            yield layout


def across(student: Activation, teacher: Activation, students: int, teachers: int) -> Group:
    """All averages over this many fields of each; raises `NoClosedForm` if one of them has none."""
    n = students + teachers
    means, covariance = group_symbols(n)
    variables = fields(n)
    algebra = GaussianAlgebra(variables, means, covariance)
    kinds = (student,) * students + (teacher,) * teachers
    index, values = {}, []
    for layout in layouts(students, teachers):
        integrand = 1
        for x, kind, part in zip(variables, kinds, layout.split(","), strict=True):
            integrand *= kind.integrand(part).subs(fields(1)[0], x)
        value = algebra.reduce(integrand)
        if value not in values:
            values.append(value)
        index[layout] = values.index(value)
    triangle = tuple(covariance[i][j] for i in range(n) for j in range(i, n))
    return Group(n, (*means, *triangle), index, Derived(tuple(values), tuple(algebra.definitions)))
