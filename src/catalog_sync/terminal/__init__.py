"""How commands interact with people and scripts: output, progress, signals."""
