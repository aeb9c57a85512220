"""Where we attach to MLflow: providers, their switch, patches of its monitor and client."""
