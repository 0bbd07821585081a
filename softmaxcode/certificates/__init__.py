"""What is proved of a code, and what is measured."""
