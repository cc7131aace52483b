"""Wire protocols as sans-IO codecs: bytes and JSON to options and audio, events to messages."""
