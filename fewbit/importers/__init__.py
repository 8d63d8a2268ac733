"""From files of others to networks: reading ONNX, and lowering what it describes to integers."""
