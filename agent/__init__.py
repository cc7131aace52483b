"""funasr-agent: offline speech-to-text appliance on FunASR's ONNX models."""

__version__ = "0.1.0"
