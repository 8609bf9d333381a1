"""Two-layer networks: the learning equations, their solutions, fixed points and errors."""
