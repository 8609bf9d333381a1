"""The document of the derivation: what stands before the chapters, their typesetting, the literature."""
