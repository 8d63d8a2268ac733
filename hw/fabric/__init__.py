"""The cells of an FPGA family and what is built directly from them: carry chains, accumulators, clock gates."""
