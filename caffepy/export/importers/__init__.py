"""What reads ONNX's operators, by kind."""
