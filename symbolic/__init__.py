"""From the learning rule to generated code, once.

    language/    notation: symbols, the record of a derivation, the steps it cites; functions: the elementary functions;
                 grammar: what may be written for an activation or a loss, read without sympy; parse: such an expression
                 in sympy; emit, arrays: expressions to Python text; unicode: to one line; latex: to a document
    calculus/    normal: Phi_1 .. Phi_4 as sympy functions; gaussian: averages over Gaussian fields, by rule, the only
                 place where averages are taken; gradients: their derivatives
    activations  what g can be; averages: theory/averages/ and theory/gradients/; losses: what the output is charged for
    mixtures     clusters of those mixtures whose errors have closed forms
    learners/    one module a learner: from its rule to the formulas that the solvers call
    generate     finds what declares formulas; writes theory/, or compares it
    manuscript/  typeset: chapters in LaTeX; front: what stands before them; literature: what is cited
    document     the derivation in LaTeX, or that of what a user wrote; user: the averages of what a user wrote

What goes in is the update rule and one expression per activation; what comes out are the modules of `theory/`, the same
text in every process.  Only `quenched derive`, the derivation of what theory/ does not have, and the tests import this
package, but for `grammar`, by which the records of numerics check an activation.

The protocol.  A module of symbolic/, calculus/ or learners/ takes part if it has a TITLE; nothing lists it.  A new
learner is one file here:

    TITLE          the title of its chapter; the docstring of the module opens it
    PART, ORDER    where the chapter stands: a part of `quenched.symbolic.manuscript.front`, and its place there
    STATUS         what the chapter's results rest on: exact, replica symmetric, a deterministic equivalent
    FORMULAS       typed functions on symbols (`notation.Real`, `notation.Positive`): each becomes a function of
                   theory/NAME.py with its name, arguments and docstring, and a section of the document
    FOLDER         a sub-folder of theory/, where that of the same name in numerics/ reads theory/FOLDER/NAME.py
    NOTATION       name -> LaTeX letter, for names that read well in code and are one letter on paper
    generated()    more text of theory/NAME.py, before FORMULAS: records, tables, functions of arrays
    derivations()  more sections of the chapter, before FORMULAS: a list of `notation.Formula`
    files()        path -> text, in place of theory/NAME.py, where one module fills a folder

All but TITLE are optional.
"""

__all__: list[str] = []
