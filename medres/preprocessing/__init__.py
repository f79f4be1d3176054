"""From a scan to the network's input, the same way in training and in use."""
