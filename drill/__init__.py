"""The incident drill: real programs, eighteen incidents, a calm stretch, a table of who was notified when."""
