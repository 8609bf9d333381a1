"""What the variables of all datasets are: a long name and units, in one table, put into datasets by `described`.

Times are in units of D steps; overlaps, errors and eigenvalues are pure numbers, "1" in the convention of netCDF.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["VARIABLES", "described", "describing"]

P = ParamSpec("P")

_STEPS = "D steps"

VARIABLES: dict[str, tuple[str, str]] = {
    # the state of a two-layer network
    "M": ("overlap of weights with means, w_k.mu_a/D", "1"),
    "R": ("overlap of weights with those of the teacher, w_k.w*_m/D", "1"),
    "Q": ("overlap of weights, w_k.w_l/D", "1"),
    "v": ("readout weights v_k, of several outputs v_ck", "1"),
    "b": ("thresholds b_k of the preactivations", "1"),
    "c": ("intercept of the output", "1"),
    "M_dot": ("overlap of velocities with means, p_k.mu_a/D", "1/(D steps)"),
    "R_dot": ("overlap of velocities with weights of the teacher, p_k.w*_m/D", "1/(D steps)"),
    "C": ("overlap of weights with velocities, w_k.p_l/D", "1/(D steps)"),
    "U": ("overlap of velocities, p_k.p_l/D", "1/(D steps)^2"),
    "v_dot": ("velocity of the readout weights", "1/(D steps)"),
    "b_dot": ("velocity of the thresholds", "1/(D steps)"),
    "c_dot": ("velocity of the intercept", "1/(D steps)"),
    "A_dot_u": ("projections of the velocities on the coordinates of the means, in a node", "1/(D steps)"),
    "C_u": ("overlaps of weights with velocities in a node of the spectrum", "1/(D steps)"),
    "U_u": ("overlaps of velocities in a node of the spectrum", "1/(D steps)^2"),
    "A_u": ("projections of the weights on the coordinates of the means, in a node of the spectrum", "1"),
    "Q_u": ("overlaps of weights in a node of the spectrum", "1"),
    "eigenvalue": ("eigenvalue rho_au of the covariance over sigma^2", "1"),
    "share": ("share of the D directions in a node", "1"),
    # message passing
    "overlaps": ("overlaps of the estimate with the means' vectors, vhat_k.v_l", "1"),
    "norms": ("overlaps of the estimate, vhat_k.vhat_l", "1"),
    # errors
    "pmse": ("half the mean square error, <(phi - y)^2>/2", "1"),
    "classification_error": ("probability of a wrong sign, ties counted half", "1"),
    "loss": ("mean loss, <l(phi, y)>", "1"),
    "tie_probability": ("probability of an output of exactly 0", "1"),
    "final_error": ("classification error at the end of learning", "1"),
    "final_pmse": ("half the mean square error at the end of learning", "1"),
    "final_error_error": ("numerical error of final_error", "1"),
    "oracle": ("classification error of the oracle", "1"),
    "digits": ("classification error in decimal digits", "1"),
    "caption": ("what the options of the learner are", ""),
    # scaling laws
    "risk": ("mean square error, <(phi - y)^2>, at labels with their noise", "1"),
    "risk_at": ("mean square error at each number of features", "1"),
    "floor": ("least mean square error that the features can reach", "1"),
    "features": ("number of features P", "1"),
    "budget": ("compute f, batch times features times steps", "1"),
    "optimal_features": ("number of features of least risk", "1"),
    "interior": ("whether the optimum lies well inside of the sizes", "1"),
    # outputs given the cluster
    "mean": ("mean output in a cluster", "1"),
    "variance": ("variance of the output in a cluster", "1"),
    "truncation": ("largest entry of a covariance that is left out", "1"),
    "gradient": ("norm of the gradient at the end of training over that at the start", "1"),
    # fixed points and their continuation
    "residual": ("largest time derivative at the solution", "1/(D steps)"),
    "leading": ("largest real part of an eigenvalue of the Jacobian, symmetries apart", "1/(D steps)"),
    "zero_modes": ("eigenvalues of the Jacobian that are 0", "1"),
    "stable": ("whether the solution is stable", "1"),
    "fold": ("whether the branch turns back here", "1"),
    "pitchfork": ("whether the branch meets its mirror image here", "1"),
    "basin": ("share of the initial states that end here", "1"),
    "dead": ("neurons without effect", "1"),
    "kind": ("good, partial or unspecialised, by the gain over chance", ""),
    "reached": ("number of the solution that an initial state ends in, -1: none", "1"),
    "unfinished": ("share of the initial states from which no solution was found", "1"),
    # studies over initial states, scales, dimensions
    "success": ("share of the runs that learn", "1"),
    "median_time": ("median time to success", _STEPS),
    "movement": ("mean change of the overlaps Q_kl", "1"),
    "theory": ("order parameter for D to infinity", "1"),
    "bias": ("D times the deviation of the mean from the equations", "1"),
    "covariance": ("D times the covariance over runs", "1"),
    "spread": ("standard deviation of a run", "1"),
    "learning_time": ("time at which a run has learned", _STEPS),
    # sweeps
    "status": ("0: unfinished, 1: done, 2: the weights overflowed", "1"),
    "diverged_after": ("last good time of a run that overflowed", _STEPS),
    # axes
    "time": ("time, steps over D", _STEPS),
    "step": ("steps of SGD", "1"),
    "iteration": ("iterations of message passing", "1"),
    "direction": ("vector v_k of which the means are made", ""),
    "direction_": ("vector v_l of which the means are made", ""),
    "seed": ("seed of a run", "1"),
    "initial": ("seed of the initial state", "1"),
    "run": ("number of the run", "1"),
    "D": ("input dimension", "1"),
    "K": ("number of neurons", "1"),
    "sigma": ("noise per component", "1"),
    "sigmas": ("noise per component, by cluster", "1"),
    "separation": ("factor on the means", "1"),
    "exponent": ("exponent a of the length D^a of the means", "1"),
    "lr": ("learning rate eta", "1"),
    "weight_decay": ("weight decay kappa", "1"),
    "second_lr": ("learning rate of the second layer", "1"),
    "second_weight_decay": ("weight decay of the second layer", "1"),
    "friction": ("friction zeta, D times 1 - beta of the momentum", "1/(D steps)"),
    "bias_lr": ("learning rate of the thresholds", "1"),
    "bias_decay": ("decay of the thresholds", "1"),
    "intercept_lr": ("learning rate of the intercept", "1"),
    "intercept_decay": ("decay of the intercept", "1"),
    "label_noise": ("standard deviation of the noise on training labels", "1"),
    "scale": ("scale of the initial weights, or of the output", "1"),
    "learner": ("learner", ""),
    "component": ("order parameter", ""),
    "component_": ("order parameter", ""),
    "mixture": ("mixture", ""),
    "network": ("network", ""),
    "rule": ("learning rule", ""),
    "task": ("task", ""),
    "learned": ("the task that is learned from this time on", ""),
    "task_of": ("the task that a cluster belongs to", ""),
    "task_of_teacher": ("the task that a teacher's neuron belongs to", ""),
    "length": ("length of the means", ""),
}
"""Long name and units by variable; X_error is the numerical or statistical error of X."""

_ENDS = ("_error",)


def described(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset, its variables and coordinates with the attributes long_name and units of `VARIABLES`.

    Of X_error: "error of" the long name of X, in its units.  Names that are not in the table are left as they are.

    >>> import xarray as xr
    >>> described(xr.Dataset({"pmse_error": 0.0})).pmse_error.attrs["long_name"]
    'error of half the mean square error, <(phi - y)^2>/2'
    """
    for name in dataset.variables:
        key = str(name)
        subject = next((x for end in _ENDS if key.endswith(end) and (x := key.removesuffix(end)) in VARIABLES), "")
        if key in VARIABLES:
            text, units = VARIABLES[key]
        elif subject:
            text, units = f"error of {VARIABLES[subject][0]}", VARIABLES[subject][1]
        else:
            continue
        dataset[name].attrs.update({"long_name": text} | ({"units": units} if units else {}))
    return dataset


def describing(function: Callable[P, xr.Dataset]) -> Callable[P, xr.Dataset]:
    """A function whose dataset comes `described`."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> xr.Dataset:
        return described(function(*args, **kwargs))

    return inner
