"""Power laws: linear students of projected features, their risk and its exponents."""
