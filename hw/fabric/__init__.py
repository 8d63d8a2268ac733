"""The cells of an FPGA family, and what is built of them directly: carry chains, accumulators, gates, synthesis."""
