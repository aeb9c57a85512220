"""AWS Trainium and Inferentia, read through `neuron-monitor`."""
