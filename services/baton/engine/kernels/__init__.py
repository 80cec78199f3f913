"""Our own kernels in plain C++: their build, their binding, and the choice to use them."""
