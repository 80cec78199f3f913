"""Linear layers under every compute scheme: float32, bfloat16, 8-bit and weight-only integers."""
