"""GPUs of Macs."""
