"""Measured on a machine with a GPU, with nothing but torch, Triton and NumPy; see `benchmarks/gpu.sh`."""
