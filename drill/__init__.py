"""The incident drill: real programs, twelve incidents, a calm stretch, and a table of who was told what, and when."""
