"""The float model, its training and the quantizer that writes the integer program."""
