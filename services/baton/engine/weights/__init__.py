"""Model weights out of GGUF and safetensors files, as float32 arrays, one at a time."""
