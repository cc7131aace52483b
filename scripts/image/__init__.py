"""Makes the images: a system from Debian's packages with the agent in it, ready to flash."""
