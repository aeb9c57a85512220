"""Several processes, on one host or on several, that log to one run."""
