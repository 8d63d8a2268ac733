"""Multipliers: exact, by canonic signed digits with a run-time quality, and in DSP blocks."""
