"""How figures look: `style`, the house style; `plot`, drawings of any result; `captions`, what is said below them."""
