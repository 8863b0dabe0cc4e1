"""Small tools that import nothing from the other packages."""
