"""Arguments and tensors, validated where they enter."""
