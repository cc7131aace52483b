"""The training recipe of the embedded models: from text to files under models/."""
