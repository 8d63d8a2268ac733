"""Puts a design on a board: board catalogue, UART shell, bitstream build, programming, host driver."""
