"""Network architectures that no library here brings; imported only by the stage that loads them."""
