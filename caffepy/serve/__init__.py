"""Models behind gRPC and REST (extra `serve`): TensorFlow Serving's API and the Open Inference Protocol."""
