"""Real networks trained on real data, compared with computed Softmax Codes."""
