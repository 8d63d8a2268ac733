"""Puts a design on a board: catalogue, UART shell, build, flash, host driver."""
