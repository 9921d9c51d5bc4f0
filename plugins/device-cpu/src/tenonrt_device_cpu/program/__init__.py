"""The compiled loop that runs native steps, with its thread pool: written as LLVM IR, shipped as machine code."""
