"""Video adapters that Windows lists."""
