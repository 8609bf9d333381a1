"""Problems that change in time, piece by piece, and the states that they start from."""
