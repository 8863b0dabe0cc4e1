"""How commands talk to people and scripts: answers, progress, signals."""
