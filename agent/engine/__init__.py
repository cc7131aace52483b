"""Speech recognition over ONNX Runtime: pure, no threads, no clock, no asyncio."""
