r"""The literature that the derivation rests on: one record each, cited by author and year in any docstring or chapter.

"El Karoui 2010" and "Mignacco, Krzakala, Lu, Urbani and Zdeborova (2020)" become citations; a year that no record
explains is found by `unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["LITERATURE", "Work", "bibliography", "bibtex", "cited", "unknown"]


@dataclass(frozen=True)
class Work:
    """A publication; `authors` as BibTeX writes them, the first by family name alone in `first`.

    `place`: the journal, proceedings or publisher; `preprint`: the year of the preprint, by which texts name it too.
    """

    key: str
    first: str
    authors: str
    title: str
    place: str
    year: int
    arxiv: str = ""
    kind: str = "article"
    volume: str = ""
    pages: str = ""
    preprint: int = 0

    @property
    def pattern(self) -> str:
        """How a text names it: the first author, others perhaps, the year."""
        year = f"(?:{self.preprint}|{self.year})" if self.preprint else str(self.year)
        return rf"\b{self.first}(?:,?\s+(?:[A-Z][\w.]*|and|others|et al\.))*\s+(?:{year}|\({year}\))"

    @property
    def where(self) -> str:
        """Place, volume and first page, as a bibliography prints them."""
        return ", ".join(part for part in (f"{self.place} {self.volume}".strip(), self.pages) if part)


LITERATURE = (
    Work("saad1995", "Saad", "Saad, D. and Solla, S. A.", "On-line learning in soft committee machines",
         "Physical Review E", 1995, volume="52", pages="4225"),
    Work("biehl1995", "Biehl", "Biehl, M. and Schwarze, H.", "Learning by on-line gradient descent",
         "Journal of Physics A", 1995, volume="28", pages="643"),
    Work("goldt2019", "Goldt", "Goldt, S. and Advani, M. S. and Saxe, A. M. and Krzakala, F. and Zdeborov{\\'a}, L.",
         "Dynamics of stochastic gradient descent for two-layer neural networks in the teacher-student setup",
         "Advances in Neural Information Processing Systems", 2019, "1906.08632", "inproceedings", volume="32"),
    Work("refinetti2021", "Refinetti", "Refinetti, M. and Goldt, S. and Krzakala, F. and Zdeborov{\\'a}, L.",
         "Classifying high-dimensional {G}aussian mixtures: where kernel methods fail and neural networks succeed",
         "International Conference on Machine Learning", 2021, "2102.11742", "inproceedings", "139", "8936"),
    Work("price1958", "Price", "Price, R.", "A useful theorem for nonlinear devices having {G}aussian inputs",
         "IRE Transactions on Information Theory", 1958, volume="4", pages="69"),
    Work("stein1981", "Stein", "Stein, C. M.", "Estimation of the mean of a multivariate normal distribution",
         "The Annals of Statistics", 1981, volume="9", pages="1135"),
    Work("plackett1954", "Plackett", "Plackett, R. L.", "A reduction formula for normal multivariate integrals",
         "Biometrika", 1954, volume="41", pages="351"),
    Work("cho2009", "Cho", "Cho, Y. and Saul, L. K.", "Kernel methods for deep learning",
         "Advances in Neural Information Processing Systems", 2009, "", "inproceedings", "22", "342"),
    Work("jacot2018", "Jacot", "Jacot, A. and Gabriel, F. and Hongler, C.",
         "Neural tangent kernel: convergence and generalization in neural networks",
         "Advances in Neural Information Processing Systems", 2018, "1806.07572", "inproceedings", "31", "8571"),
    Work("elkaroui2010", "El Karoui", "El Karoui, N.", "The spectrum of kernel random matrices",
         "The Annals of Statistics", 2010, "1001.0492", volume="38", pages="1"),
    Work("goldt2020", "Goldt", "Goldt, S. and M{\\'e}zard, M. and Krzakala, F. and Zdeborov{\\'a}, L.",
         "Modeling the influence of data structure on learning in neural networks: the hidden manifold model",
         "Physical Review X", 2020, "1909.11500", volume="10", pages="041044"),
    Work("gerace2020", "Gerace",
         "Gerace, F. and Loureiro, B. and Krzakala, F. and M{\\'e}zard, M. and Zdeborov{\\'a}, L.",
         "Generalisation error in learning with random features and the hidden manifold model",
         "International Conference on Machine Learning", 2020, "2002.09339", "inproceedings", "119", "3452"),
    Work("hu2020", "Hu", "Hu, H. and Lu, Y. M.", "Universality laws for high-dimensional learning with random features",
         "IEEE Transactions on Information Theory", 2023, "2009.07669", preprint=2020, volume="69", pages="1932"),
    Work("mei2022", "Mei", "Mei, S. and Montanari, A.",
         "The generalization error of random features regression: precise asymptotics and the double descent curve",
         "Communications on Pure and Applied Mathematics", 2022, "1908.05355", volume="75", pages="667"),
    Work("hastie2022", "Hastie", "Hastie, T. and Montanari, A. and Rosset, S. and Tibshirani, R. J.",
         "Surprises in high-dimensional ridgeless least squares interpolation",
         "The Annals of Statistics", 2022, "1903.08560", volume="50", pages="949"),
    Work("mignacco2020", "Mignacco",
         "Mignacco, F. and Krzakala, F. and Lu, Y. M. and Urbani, P. and Zdeborov{\\'a}, L.",
         "The role of regularization in classification of high-dimensional noisy {G}aussian mixture",
         "International Conference on Machine Learning", 2020, "2002.11544", "inproceedings", "119", "6874"),
    Work("loureiro2021", "Loureiro",
         "Loureiro, B. and Sicuro, G. and Gerbelot, C. and Pacco, A. and Krzakala, F. and Zdeborov{\\'a}, L.",
         "Learning {G}aussian mixtures with generalised linear models: precise asymptotics in high dimensions",
         "Advances in Neural Information Processing Systems", 2021, "2106.03791", "inproceedings", volume="34"),
    Work("lelarge2019", "Lelarge", "Lelarge, M. and Miolane, L.",
         "Fundamental limits of symmetric low-rank matrix estimation",
         "Probability Theory and Related Fields", 2019, "1611.03888", volume="173", pages="859"),
    Work("lesieur2016", "Lesieur",
         "Lesieur, T. and De Bacco, C. and Banks, J. and Krzakala, F. and Moore, C. and Zdeborov{\\'a}, L.",
         "Phase transitions and optimal algorithms in high-dimensional {G}aussian mixture clustering",
         "Allerton Conference on Communication, Control, and Computing", 2016, "1610.02918", "inproceedings"),
    Work("bayati2011", "Bayati", "Bayati, M. and Montanari, A.",
         "The dynamics of message passing on dense graphs, with applications to compressed sensing",
         "IEEE Transactions on Information Theory", 2011, "1001.3448", volume="57", pages="764"),
    Work("widrow1985", "Widrow", "Widrow, B. and Stearns, S. D.", "Adaptive signal processing", "Prentice-Hall", 1985,
         "", "book"),
    Work("williams1998", "Williams", "Williams, C. K. I.", "Computation with infinite neural networks",
         "Neural Computation", 1998, volume="10", pages="1203"),
    Work("durrant2010", "Durrant", "Durrant, R. J. and Kab{\\'a}n, A.",
         "Compressed {F}isher linear discriminant analysis: classification of randomly projected data",
         "ACM SIGKDD Conference on Knowledge Discovery and Data Mining", 2010, "", "inproceedings"),
    Work("liao2019", "Liao", "Liao, Z. and Couillet, R.",
         "A large dimensional analysis of least squares support vector machines",
         "IEEE Transactions on Signal Processing", 2019, "1701.02967", volume="67", pages="1065"),
    Work("silverstein1995", "Silverstein", "Silverstein, J. W.",
         "Strong convergence of the empirical distribution of eigenvalues of large dimensional random matrices",
         "Journal of Multivariate Analysis", 1995, volume="55", pages="331"),
    Work("caponnetto2007", "Caponnetto", "Caponnetto, A. and De Vito, E.",
         "Optimal rates for the regularized least-squares algorithm",
         "Foundations of Computational Mathematics", 2007, volume="7", pages="331"),
    Work("bordelon2024", "Bordelon", "Bordelon, B. and Atanasov, A. and Pehlevan, C.",
         "A dynamical model of neural scaling laws", "International Conference on Machine Learning", 2024,
         "2402.01092", "inproceedings"),
    Work("paquette2024", "Paquette", "Paquette, E. and Paquette, C. and Xiao, L. and Pennington, J.",
         "4+3 phases of compute-optimal neural scaling laws", "Advances in Neural Information Processing Systems",
         2024, "2405.15074", "inproceedings", "37", "16459"),
    Work("trefethen2014", "Trefethen", "Trefethen, L. N. and Weideman, J. A. C.",
         "The exponentially convergent trapezoidal rule", "SIAM Review", 2014, volume="56", pages="385"),
    Work("goldt2022", "Goldt",
         "Goldt, S. and Loureiro, B. and Reeves, G. and Krzakala, F. and M{\\'e}zard, M. and Zdeborov{\\'a}, L.",
         "The {G}aussian equivalence of generative models for learning with shallow neural networks",
         "Mathematical and Scientific Machine Learning", 2022, "2006.14709", "inproceedings", "145", "426", 2021),
    # --- numerical methods, and simulation
    Work("ledoit2004", "Ledoit", "Ledoit, O. and Wolf, M.",
         "A well-conditioned estimator for large-dimensional covariance matrices",
         "Journal of Multivariate Analysis", 2004, volume="88", pages="365"),
    Work("owen1956", "Owen", "Owen, D. B.", "Tables for computing bivariate normal probabilities",
         "The Annals of Mathematical Statistics", 1956, volume="27", pages="1075"),
    Work("genz1992", "Genz", "Genz, A.", "Numerical computation of multivariate normal probabilities",
         "Journal of Computational and Graphical Statistics", 1992, volume="1", pages="141"),
    Work("gilpelaez1951", "Gil-Pelaez", "Gil-Pelaez, J.", "Note on the inversion theorem", "Biometrika", 1951,
         volume="38", pages="481"),
    Work("imhof1961", "Imhof", "Imhof, J. P.", "Computing the distribution of quadratic forms in normal variables",
         "Biometrika", 1961, volume="48", pages="419"),
    Work("golub1969", "Golub", "Golub, G. H. and Welsch, J. H.", "Calculation of {G}auss quadrature rules",
         "Mathematics of Computation", 1969, volume="23", pages="221"),
    Work("chandrupatla1997", "Chandrupatla", "Chandrupatla, T. R.", "A new hybrid quadratic/bisection algorithm for "
         "finding the zero of a nonlinear function without using derivatives", "Advances in Engineering Software", 1997,
         volume="28", pages="145"),
    Work("kelley1998", "Kelley", "Kelley, C. T. and Keyes, D. E.",
         "Convergence analysis of pseudo-transient continuation", "SIAM Journal on Numerical Analysis", 1998,
         volume="35", pages="508"),
    Work("keller1977", "Keller", "Keller, H. B.",
         "Numerical solution of bifurcation and nonlinear eigenvalue problems", "Applications of bifurcation theory",
         1977, "", "inproceedings", pages="359"),
    Work("moore1966", "Moore", "Moore, R. E.", "Interval analysis", "Prentice-Hall", 1966, "", "book"),
    Work("trefethen2006", "Trefethen", "Trefethen, L. N. and Weideman, J. A. C. and Schmelzer, T.",
         "Talbot quadratures and rational approximations", "BIT Numerical Mathematics", 2006, volume="46", pages="653"),
    Work("stehfest1970", "Stehfest", "Stehfest, H.", "Algorithm 368: numerical inversion of {L}aplace transforms",
         "Communications of the ACM", 1970, volume="13", pages="47"),
    Work("box1958", "Box", "Box, G. E. P. and Muller, M. E.", "A note on the generation of random normal deviates",
         "The Annals of Mathematical Statistics", 1958, volume="29", pages="610"),
    Work("marsaglia2000", "Marsaglia", "Marsaglia, G. and Tsang, W. W.",
         "A simple method for generating gamma variables", "ACM Transactions on Mathematical Software", 2000,
         volume="26", pages="363"),
    Work("salmon2011", "Salmon", "Salmon, J. K. and Moraes, M. A. and Dror, R. O. and Shaw, D. E.",
         "Parallel random numbers: as easy as 1, 2, 3",
         "International Conference for High Performance Computing, Networking, Storage and Analysis", 2011, "",
         "inproceedings"),
    Work("holm1979", "Holm", "Holm, S.", "A simple sequentially rejective multiple test procedure",
         "Scandinavian Journal of Statistics", 1979, volume="6", pages="65"),
)  # fmt: skip
"""In the order of the argument; authors, titles, places and years were compared with stored copies of public pages."""


def cited(text: str) -> str:
    r"""A text with its authors and years as citations.

    >>> cited("Mignacco, Krzakala, Lu, Urbani and Zdeborova (2020)")
    'Mignacco et al. \\cite{mignacco2020}'
    """
    for work in LITERATURE:
        many = " et al." if work.authors.count(" and ") > 1 else ""
        second = re.sub(r",.*", "", work.authors.split(" and ")[1]) if work.authors.count(" and ") == 1 else ""
        name = work.first + many + (f" and {second}" if second else "")
        text = re.sub(work.pattern, rf"{name} \\cite{{{work.key}}}", text)
    return text


def unknown(text: str) -> list[str]:
    """Years after a name that are no citation yet."""
    return re.findall(r"[A-Z][a-z]+ \(?(?:1[89]|20)\d\d\b", text)


_PLACES = {"article": "journal", "inproceedings": "booktitle", "book": "publisher"}


def bibtex(keys: Collection[str] | None = None) -> str:
    """The works of these keys as BibTeX, in the order of `LITERATURE`; None: all of them."""
    found = []
    for work in LITERATURE:
        if keys is not None and work.key not in keys:
            continue
        where = _PLACES[work.kind]
        lines = [f"@{work.kind}{{{work.key}", f"  author = {{{work.authors}}}", f"  title = {{{work.title}}}"]
        lines += [f"  {where} = {{{work.place}}}"]
        lines += [f"  {name} = {{{value}}}" for name in ("volume", "pages") if (value := getattr(work, name))]
        lines += [f"  year = {{{work.year}}}"]
        lines += [f"  eprint = {{{work.arxiv}}},\n  archivePrefix = {{arXiv}}"] if work.arxiv else []
        found.append(",\n".join(lines) + "\n}")
    return "\n\n".join(found) + "\n"


def bibliography(text: str, uncited: Collection[str] = ()) -> str:
    """The works that a document cites, as LaTeX, in the order of `LITERATURE`; nothing if it cites none."""
    keys = {key for group in re.findall(r"\\cite\{([^}]*)\}", text) for key in group.split(",")} | set(uncited)
    lines = [r"\begin{thebibliography}{99}"]
    for work in LITERATURE:
        if work.key in keys:
            people = [" ".join(reversed(person.split(", "))) for person in work.authors.split(" and ")]
            names = people[0] if len(people) == 1 else ", ".join(people[:-1]) + " and " + people[-1]
            online = rf" \href{{https://arxiv.org/abs/{work.arxiv}}}{{arXiv:{work.arxiv}}}." if work.arxiv else ""
            lines.append(rf"\bibitem{{{work.key}}} {names}. \emph{{{work.title}}}. {work.where} ({work.year}).{online}")
    return "\n".join([*lines, r"\end{thebibliography}"]) if len(lines) > 1 else ""
