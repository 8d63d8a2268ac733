"""Simulation: fast compiled runs (`compile`), netlists and bitstreams, and cocotb benches (`cocotb_run`, `bench`)."""
