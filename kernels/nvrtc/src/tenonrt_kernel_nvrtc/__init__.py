"""CUDA kernels of TenonRT, generated as C++ and compiled by NVRTC."""
