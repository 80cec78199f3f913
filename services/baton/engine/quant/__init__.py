"""Linear layers under three compute schemes: float32, bfloat16 and 8-bit integers."""
