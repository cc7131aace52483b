"""Audio in: files, resampling, blocks of 16 kHz mono samples."""
