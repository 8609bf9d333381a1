"""Normal probabilities, quadratic forms in Gaussians, and quadrature with error estimates."""
