"""Settings from the environment: values, variables, secrets, and the reference that is generated from them."""
