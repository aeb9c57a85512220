"""The open runs of this process."""
