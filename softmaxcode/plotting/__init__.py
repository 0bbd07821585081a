"""Pictures of codes and of what is known."""
