"""CPU kernels compiled with numba and LLVM for the forward pass of Phi-3."""
