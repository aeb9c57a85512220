"""AMD GPUs, read from the kernel's files."""
