"""Real networks trained on real data, held against computed Softmax Codes."""
