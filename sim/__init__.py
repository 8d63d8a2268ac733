"""Simulators: compiled bulk runs (`compile`, `run`) and cocotb benches (`cocotb_run`, `bench`)."""
