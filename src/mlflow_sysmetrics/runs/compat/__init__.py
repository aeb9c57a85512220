"""Classes with the interface of other packages."""
