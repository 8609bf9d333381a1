"""What a problem is made of: data law, network, learning rule, state; their checks and provenance."""
