"""Network architectures that no library here brings; imported only by the backbone that loads them."""
