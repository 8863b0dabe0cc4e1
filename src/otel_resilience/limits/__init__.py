"""What an attempt may take: time limits, and the threads in which a ``def`` can be cut."""
