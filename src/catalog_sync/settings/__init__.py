"""Settings from the environment: values, variables and secrets."""
