"""Small tools that import nothing of the other rooms."""
