"""What stands before and between the chapters: abstract, introduction, symbols, conventions, the parts in their order.

Texts are in the notation of docstrings (`quenched.symbolic.language.prose`), as the chapters are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata

from quenched.symbolic.manuscript.typeset import Book

__all__ = ["PARTS", "SYMBOLS", "front", "title"]

PARTS = {
    "calculus": (
        "The calculus",
        """All averages of this document are over jointly normal variables.  Few rules reduce them to normal
probabilities of at most four fields and to elementary functions; a program applies the rules, and each line of a
derivation names the one that it applied.""",
    ),
    "learning": (
        "The learning equations",
        """From the update rule of stochastic gradient descent to the rates of the order parameters R, Q and v.  The
rates close and do not depend on D.  A loss, an activation or a teacher enters by four averages of one step.""",
    ),
    "errors": (
        "Errors and the oracle",
        "The least error of a rule that knows the means and the variance of the clusters.",
    ),
    "replica": (
        "Learning from finitely many samples per dimension",
        """A learner has n = alpha D samples and uses them as often as it likes.  Its order parameters solve
saddle-point equations, the derivatives of a potential, which the replica method gives.""",
    ),
    "features": (
        "Random features and kernels",
        """Only the readout learns; the features are random and fixed.  Their covariance has a bulk with a deterministic
equivalent, and finitely many spikes.""",
    ),
    "stability": ("Fixed points and the Jacobian", ""),
    "further": ("Further learners", ""),
    "tables": (
        "Tables",
        "",
    ),
}
"""The parts in the order of the argument: name, as modules declare it by PART -> title, introduction."""

_ABSTRACT = """Learning in high dimension is described by few order parameters.  This document derives their equations
for inputs from Gaussian mixtures: the dynamics of two-layer networks under stochastic gradient descent, the error of
the Bayes rule that knows the mixture, what n = alpha D samples can teach a Bayes-optimal or a convex learner, and what
random features and kernels make of the same data.  Every formula is derived by a program from the definition of its
learner; the lines below are printed from the derivation that also generates the code which solves the equations."""

_INTRODUCTION = """*What is derived from what.*  The input is a definition: an update rule with a loss, an activation, a
prior, a kernel.  `two_layer.py` multiplies an update out and counts powers of D; what is left are averages over the
local fields, which are jointly normal given the cluster.  `rules.py` has the rules by which they are taken, with
proofs, and `worked_averages.py` takes two of them in full.  The chapters on n = alpha D samples differentiate
potentials.  Those on features and kernels expand in Hermite orders and solve for resolvents.  All of them take their
averages by the same rules.

*Assumptions.*  Given the cluster a, an input is x ~ N(mean_a, Omega_a); the covariances commute.  The means span
finitely many directions.  They are of order 1, or of order D^(1/4) or D^(1/2) where a section says so.  The number K of
neurons, the time t = steps/D and the ratio alpha = n/D stay finite as D grows.  Each step of the dynamics sees fresh
samples.

*What is rigorous.*  The rules of the calculus, the averages and the errors of the oracle are exact at any D.  The
learning equations are the limit of large D at fixed t; their averages are exact, the limit is proved in the cases that
the table names, and fluctuations are of order D^(-1/2).  Potentials from the replica method are not a proof; the table
names the proofs that exist.  Deterministic equivalents for features and kernels are derived by removing one direction
or one feature at a time.  That is not rigorous, and the package checks them against direct evaluation at finite D.

*How to read it.*  A derivation is a sequence of numbered lines, each with the rule that led to it.  A name in
typewriter letters is a function or a module of the package, which is generated from the same derivation.  Where the
document was made with `quenched derive --certify`, a certificate says how many digits of a function agree with
quadrature of its definition.  The table says what each chapter rests on."""

SYMBOLS = (
    ("D, K, C", "dimension of the inputs, number of neurons, number of clusters"),
    ("x, y", "an input and its label; y = y_a, +1 or -1, in cluster a"),
    ("E, E_a", "average; average given the cluster a"),
    ("P_a, mean_a", "weight and mean of cluster a; mean_a = mu_a/sqrt(D)"),
    ("sigma, Omega_a", "standard deviation of isotropic noise; covariance of the inputs of cluster a"),
    ("rho_au, share_u", "variance in cluster a along the directions of node u of the spectrum; their share of all"),
    ("Pi_u", "projector on the directions of node u"),
    ("w_k, v_k", "weights and readout of neuron k"),
    ("g, g', g''", "activation and its derivatives; g_k = g(lambda_k)"),
    ("lambda_k", "preactivation or local field, w_k.x/sqrt(D)"),
    ("nu_b", "field along a reference vector, r_b.x/sqrt(D)"),
    ("r_b", "reference vectors of squared length D that span the means"),
    ("phi, s", "output of the network, s sum_k v_k g(lambda_k), and its scale"),
    ("l, push_k", "loss l(phi, y) and its slope dl/dlambda_k"),
    ("force, response", "averages of one step, E_a[push_k] and E_a[d push_k/dlambda_n]"),
    ("noise, readout", "averages of one step, E_a[push_k push_l] and E_a[dl/dv_k]"),
    ("F_0, F_1; S_0, S_1, S_2", "coefficients of dl/dphi and of (dl/dphi)^2 in phi, for a loss of degree 2"),
    ("R_ubk, Q_ukl", "order parameters w_k.Pi_u r_b/D and w_k.Pi_u w_l/D"),
    ("M_uak", "overlap of the mean of cluster a with neuron k: the part of E_a[lambda_k] in node u"),
    ("I_kl", "unit matrix"),
    ("eta, kappa", "learning rate and weight decay of the first layer; eta_v, kappa_v of the readout"),
    ("B, t", "samples in a step; time, steps/D"),
    ("xi_k, T", "dynamics: normal vector of the bath that moves w_k, temperature of the bath"),
    ("Delta^2", "variance of the label noise"),
    ("chi, zeta", "dynamics: numbers of order 1 and mean 0, inner products of independent vectors over sqrt(D)"),
    ("alpha, n", "samples per dimension, n = alpha D"),
    ("Q, Lam", "replica chapters: overlaps of estimate and truth, and their conjugates"),
    ("V, q, m_a, Vh, qh, mh_a", "convex learners: susceptibility, variance, mean of the output; conjugates"),
    ("psi, k_0, k_1, k_2, k_*", "feature function, its Hermite coefficients and the rest"),
    ("P, gamma", "features: their number, and features per dimension P/D"),
    ("T, lambda", "features: resolvent of Marchenko and Pastur, ridge"),
    ("F(N, N', u)", "kernel of N = |x|^2/D, N' = |x'|^2/D, u = x.x'/D"),
    (
        "Phi_n, H, delta",
        "normal distribution function of n variables, Heaviside's step, Dirac's delta",
    ),
    ("varphi_n", "density of n normal variables of zero mean and unit variance"),
    ("Gamma(x), O(x)", "Euler's function, in power laws; terms of order x"),
    ("m_i, c_ij", "mean and covariance of the fields of an average"),
    (
        "m_(1|0), c_(12|0)",
        "the same given x_0 = 0; with a t, as in m_(1|t0), given that x_0 plus a normal variable is 0",
    ),
    ("d_0, h_0, r_01", "density of x_0 at 0; mean over standard deviation; correlation"),
    ("p_01, e_01, e_(0|p1)", "E[H(x_0) H(x_1)], E[x_0 x_1], E[x_0 H(x_1)]; H or Phi, as the activation has it"),
    ("<g'_0 g_1>", "E[g'(x_0) g(x_1)]; with an index a, in cluster a"),
)

_SHARED = """Some letters mean different things in different chapters, as they do in the literature.

* P_a is the weight of a cluster, which a function of one cluster calls P.  Where there are features, P is their number.
P(...) is a probability.
* T is the temperature of the bath in the dynamics, the resolvent of Marchenko and Pastur for features and kernels, and
a trace in the power laws.  T_ab = mu_a.mu_b/D has two indices.  Raised, T transposes.
* S_0, S_1, S_2 are coefficients of a loss, S_ubk are overlaps of velocities (momentum), S(x) is the sum whose sign
is the Bayes rule (oracle).  S alone is a second moment (Bayes-optimal learning), the signal of an output (features),
the matrix of a kernel between features (kernels), a sum of squares (power laws).
* gamma is P/D for features, and the learning rate in the power laws.  zeta is a number of mean 0 in the increments, the
friction with momentum, and a scale of the spectrum in the power laws."""

_CONVENTIONS = (
    ("field w.x/sqrt(D)", "w.x with |w| of order 1 (Saad and Solla 1995)", "w = sqrt(D) w'; Q, R, eta as there"),
    ("step eta/sqrt(D) of w", "step eta'/D of w/sqrt(D) (Saad and Solla 1995)", "eta = eta'"),
    ("readout step eta_v/D", "readout step eta'", "eta_v = D eta'"),
    ("loss (phi - y)^2/2", "(phi - y)^2", "eta = 2 eta', kappa = kappa'/2, risk = risk'/2"),
    (
        "g = erf(x/sqrt 2)",
        "erf(x)",
        "w = sqrt 2 w', Q = 2 Q', R = sqrt 2 R', eta = 2 eta', kappa = kappa'/2; v, eta_v, kappa_v as there",
    ),
    ("decay (eta kappa/D) w", "(lambda'/2) |w|^2 added to the loss of a step of size eta", "kappa = D lambda'"),
    ("time t = steps/D", "steps, or eta steps/D", "t = steps'/D, t = t'/eta"),
    ("ridge (lambda/2)|w|^2 beside sum_i l_i", "beside the mean of l_i", "lambda = n lambda'"),
    ("the same, beside sum_i (phi - y)^2/2", "lambda' |w|^2 beside sum_i (phi - y)^2", "lambda = lambda'"),
    ("the same, of w.x/sqrt(D)", "C sum_i l_i + |w|^2/2 of w.x (scikit-learn)", "lambda = 1/(C D), w = sqrt(D) w'"),
    ("noise sigma", "Delta = sigma^2 (Mignacco and others 2020)", "sigma = sqrt(Delta)"),
    (
        "alpha = n/D, ratio = D/P",
        "alpha' = n/P, gamma' = D/P (Gerace and others 2020)",
        "alpha = alpha'/gamma', ratio = gamma'",
    ),
    ("means mean_a = mu_a/sqrt(D)", "mu_a/sqrt(D) (Refinetti and others 2021)", "the same, with T_ab = mu_a.mu_b/D"),
    ("labels +1, -1", "labels 1, 0", "y = 2 y' - 1"),
)


def _table(book: Book, rows: Sequence[Sequence[str]], columns: str, head: Sequence[str]) -> str:
    lines = [" & ".join(head) + r" \\ \hline \endhead", *(" & ".join(map(book.prose, row)) + r" \\" for row in rows)]
    return "\n".join([rf"\begin{{longtable}}{{{columns}}}", *lines, r"\end{longtable}"])


def _statuses(book: Book) -> str:
    """What each chapter rests on, as the modules say."""
    reference = book.reference()
    rows = [
        f"{reference(chapter.name + '.py')} & {book.prose(chapter.title)} & {book.prose(chapter.status)} \\\\"
        for chapter in book.chapters
        if chapter.status
    ]
    head = r"& chapter & its results \\ \hline \endhead"
    columns = r"@{}lp{5.2cm}p{7.8cm}@{}"
    return "\n".join([rf"\begin{{longtable}}{{{columns}}}", head, *rows, r"\end{longtable}"])


def title(heading: str) -> str:
    """The title with the version of the package, which is what the text depends on; no date."""
    version = metadata.version("quenched")
    return rf"\title{{{heading}}}\author{{\texttt{{quenched}} {version}}}\date{{}}\maketitle"


def front(book: Book) -> str:
    """Title, abstract, contents, introduction, symbols, conventions."""
    prose: Callable[[str], str] = book.prose
    raised = r"@{}>{\raggedright\arraybackslash}p"
    wide = rf"{raised}{{4.4cm}}p{{10.6cm}}@{{}}"
    three = (
        rf"{raised}{{4.6cm}}>{{\raggedright\arraybackslash}}p{{5.4cm}}>{{\raggedright\arraybackslash}}p{{5.0cm}}@{{}}"
    )
    translate = """A prime marks the other convention; the last column says what a quantity of this document is.  To
read results of a paper in the package, translate its parameters first and its order parameters last."""
    parts = [
        title("Learning on Gaussian mixtures in high dimension: the derivation"),
        "\\begin{abstract}\n" + prose(_ABSTRACT) + "\n\\end{abstract}",
        r"\tableofcontents",
        r"\section*{Introduction}\addcontentsline{toc}{section}{Introduction}",
        prose(_INTRODUCTION),
        _statuses(book),
        r"\section*{Symbols}\addcontentsline{toc}{section}{Symbols}",
        prose(
            "Indices: clusters a, neurons k, l, i, j, reference vectors b, nodes u; "
            "what a left-hand side does not have is summed."
        ),
        _table(book, SYMBOLS, wide, ("symbol", "meaning")),
        prose(_SHARED),
        r"\section*{Conventions of other papers}\addcontentsline{toc}{section}{Conventions of other papers}",
        prose(translate),
        _table(book, _CONVENTIONS, three, ("here", "elsewhere", "translation")),
    ]
    return "\n\n".join(parts)
