"""Where incidents, the outbox and the dead letters are kept, and what a new process takes up from them."""
