"""ONNX graphs: written, taken apart into blocks, run for measurements."""
