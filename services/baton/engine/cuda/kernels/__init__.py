"""Triton kernels: plain functions on device tensors, launched on the current stream.

None allocates, waits or reads a value on the host, so all may be captured into a CUDA graph.
Arguments are not checked beyond assertions: they come from our own code. What differs from step to
step is excluded from Triton's specialization: it would compile again in the middle of serving.
"""
