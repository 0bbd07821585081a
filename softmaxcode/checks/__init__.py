"""Arguments and tensors, checked where they enter."""
