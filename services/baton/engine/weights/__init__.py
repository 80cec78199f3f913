"""Model weights out of GGUF and safetensors files, as float32 tensors, one at a time."""
