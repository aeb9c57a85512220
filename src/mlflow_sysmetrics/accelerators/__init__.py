"""GPUs and other accelerators: one folder a vendor, above them what all share."""
