"""Intel GPUs, read from the kernel's files."""
