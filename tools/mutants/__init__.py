"""Mutation testing of the core: which changes of a rule does no test notice? See docs/mutants.md."""
