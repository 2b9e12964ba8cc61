"""Nets to ONNX and from ONNX (extra `onnx`)."""
