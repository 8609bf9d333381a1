"""Generated text as machine code: derived, compiled, kept on disk; its arithmetic at other precisions."""
