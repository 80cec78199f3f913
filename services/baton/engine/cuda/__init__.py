"""The engine on an NVIDIA GPU. Imported only where a CUDA device was chosen."""
