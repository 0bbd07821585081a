"""Threads, processes, progress, interrupts and compiled kernels."""
