"""From the learning rule to generated code, once.

    notation     symbols, the record of a derivation, the steps it cites
    normal       Phi_1 .. Phi_4 as sympy functions: derivatives by Plackett's identity
    gaussian     averages over Gaussian fields, by rule: the only place where averages are taken
    grammar      what may be written for an activation, read without sympy
    parse        such an expression in sympy
    activations  what g can be, and its averages                      -> theory/activations.py
    losses       what the output is charged for, and its slope          -> theory/losses.py
    two_layer    the SGD rule -> increments -> order-parameter equations -> theory/two_layer.py
    teachers     averages across two activations, derived when a problem has them
    oracle       the oracle error of a mixture                          -> theory/oracle.py
    features     random features: Hermite orders, spikes, powers of D   -> theory/random_features.py
    kernels      kernel ridge regression: Taylor orders, resolvent      -> theory/kernel_ridge.py
    emit         expressions -> Python text
    latex        derivations -> a document
    derive       the driver: write, compare, tell

What goes in is the update rule and one expression per activation; what comes out are the modules of `theory/`, the same
text in every process.  Only `quenched derive`, the derivation of what theory/ does not have, and the tests import this
package, but for `grammar`, by which the records of numerics check an activation.
"""

__all__: list[str] = []
