"""Recognisers that a loss looks through, or that are trained on: ONNX graphs and networks of torch, with gradient."""
