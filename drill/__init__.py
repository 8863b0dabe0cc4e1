"""The incident drill: real programs, fourteen incidents, a calm stretch, and a table of who was told what, and when."""
