"""The incident drill: real programs, fourteen incidents, a calm stretch, a table of who was notified when."""
