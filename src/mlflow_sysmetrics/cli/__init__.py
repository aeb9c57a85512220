"""The command `mlflow-sysmetrics`."""
