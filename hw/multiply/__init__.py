"""Multipliers: by canonic signed digits, exact, and in DSP blocks."""
