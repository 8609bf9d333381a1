"""What learners with frozen features share: Hermite coefficients, kernels, resolvents, readouts."""
