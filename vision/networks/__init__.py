"""Network architectures that no dependency provides; imported only by the code that loads them."""
