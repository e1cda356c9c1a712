"""Kernels in C for the CPU, compiled where they run (docs/adr/0012-kernels-in-c.md)."""
