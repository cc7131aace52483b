"""The ONNX Runtime that is installed: which one it is, and putting a GPU's in its place."""
