"""CPU kernels generated from Python as LLVM IR, specialised to each problem."""
