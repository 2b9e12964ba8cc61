"""How each layer type is written in ONNX's operators, a file a family."""
